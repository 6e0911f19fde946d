#include "consents/topic_reader.h"

#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "crypto/secret_file.h"

namespace kveil::consents {
namespace {

template <auto kDestroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle* handle) const {
    kDestroy(handle);
  }
};
template <typename Handle, auto kDestroy>
using Owned = std::unique_ptr<Handle, Destroy<kDestroy>>;

using Message = Owned<rd_kafka_message_t, rd_kafka_message_destroy>;
using PartitionList = Owned<rd_kafka_topic_partition_list_t, rd_kafka_topic_partition_list_destroy>;

constexpr int kWarning = 4;  // syslog(3)
constexpr size_t kLongestLogText = 500;
// librdkafka starts a thread for each broker that it is told of, and ends it with the client only.
constexpr int kMostBrokers = 1000;

// Bounds of what waits in memory: librdkafka stops fetching a partition beyond queued.max.messages.kbytes.
constexpr std::pair<const char*, const char*> kSettings[] = {
    {"client.id", "kveil"},
    {"isolation.level", "read_committed"},
    {"auto.offset.reset", "error"},
    {"enable.auto.commit", "false"},
    {"enable.partition.eof", "true"},
    {"check.crcs", "true"},
    {"allow.auto.create.topics", "false"},
    {"topic.metadata.refresh.interval.ms", "10000"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    {"reconnect.backoff.max.ms", "2000"},
    {"fetch.wait.max.ms", "500"},
    {"fetch.message.max.bytes", "1048576"},
    {"fetch.max.bytes", "4194304"},
    {"receive.message.max.bytes", "16777216"},
    {"queued.max.messages.kbytes", "4096"},
    {"log.connection.close", "false"},
};

absl::Status Set(rd_kafka_conf_t* conf, const char* name, const std::string& value) {
  char error[256];
  if (rd_kafka_conf_set(conf, name, value.c_str(), error, sizeof(error)) == RD_KAFKA_CONF_OK) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat("librdkafka does not take ", name));  // its text may show the value
}

absl::Status SetTls(rd_kafka_conf_t* conf, const TopicReaderOptions::Tls& tls) {
  RETURN_IF_ERROR(Set(conf, "ssl.endpoint.identification.algorithm", "https"));
  for (const auto& [name, path] : {std::pair{"ssl.ca.location", &tls.ca},
                                   {"ssl.certificate.location", &tls.certificate},
                                   {"ssl.key.location", &tls.key},
                                   {"ssl.crl.location", &tls.crl}}) {
    if (!path->empty()) RETURN_IF_ERROR(Set(conf, name, *path));
  }
  return absl::OkStatus();
}

absl::Status SetSasl(rd_kafka_conf_t* conf, const TopicReaderOptions::Sasl& sasl) {
  ASSIGN_OR_RETURN(const crypto::SecretText password, crypto::ReadSecret(sasl.passwordFile));
  RETURN_IF_ERROR(Set(conf, "sasl.mechanism", sasl.mechanism));
  RETURN_IF_ERROR(Set(conf, "sasl.username", sasl.username));
  return Set(conf, "sasl.password", std::string(crypto::AsText(password)));
}

const char* ProtocolOf(const TopicReaderOptions& options) {
  if (options.sasl.has_value()) return options.tls.has_value() ? "sasl_ssl" : "sasl_plaintext";
  return options.tls.has_value() ? "ssl" : "plaintext";
}

// Whether the topic has nothing at the offset that was asked for.
bool IsOutOfRange(rd_kafka_resp_err_t error) {
  return error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE || error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET;
}

}  // namespace

struct TopicReader::State {
  std::string topic;
  std::function<bool(int)> tagAsOwn;
  Mutex mutex;
  std::string trouble ABSL_GUARDED_BY(mutex);  // what librdkafka said last of its connections

  Owned<rd_kafka_t, rd_kafka_destroy> client;
  Owned<rd_kafka_queue_t, rd_kafka_queue_destroy> queue;
  Owned<rd_kafka_topic_t, rd_kafka_topic_destroy> handle;
  std::vector<int32_t> begun;
  Message current;

  ~State() {
    current.reset();
    for (const int32_t partition : begun) rd_kafka_consume_stop(handle.get(), partition);
    handle.reset();
    queue.reset();
    client.reset();
  }

  absl::Status Error(std::string_view what, rd_kafka_resp_err_t error) {
    std::string text = StrCat("topic ", topic, ": ", what, ": ", rd_kafka_err2str(error));
    const MutexLock lock(mutex);
    if (!trouble.empty()) StrAppend(&text, " (", trouble, ")");
    return absl::UnavailableError(text);
  }

  // Callbacks, of threads of librdkafka.
  static void OnError(rd_kafka_t*, int error, const char* reason, void* self) {
    auto* const state = static_cast<State*>(self);
    const MutexLock lock(state->mutex);
    state->trouble = StrCat(rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(error)), ": ",
                            std::string_view(reason).substr(0, kLongestLogText));
  }
  static void OnLog(const rd_kafka_t*, int level, const char* facility, const char* text) {
    if (level > kWarning) return;
    log::Warning("consents.client", {{"about", facility}, {"text", std::string_view(text).substr(0, kLongestLogText)}});
  }
  static int OnSocket(int domain, int type, int protocol, void* self) {
    UniqueFd fd(::socket(domain, type | SOCK_CLOEXEC, protocol));
    if (!fd.valid() || !static_cast<State*>(self)->tagAsOwn(fd.get())) return -1;
    return fd.Release();
  }
};

TopicReader::TopicReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
TopicReader::~TopicReader() = default;

absl::StatusOr<std::unique_ptr<TopicReader>> TopicReader::Open(const TopicReaderOptions& options) {
  auto state = std::make_unique<State>();
  state->topic = options.topic;
  state->tagAsOwn = options.tagAsOwn;
  Owned<rd_kafka_conf_t, rd_kafka_conf_destroy> conf(rd_kafka_conf_new());
  for (const auto& [name, value] : kSettings) RETURN_IF_ERROR(Set(conf.get(), name, value));
  RETURN_IF_ERROR(Set(conf.get(), "bootstrap.servers", options.bootstrapServers));
  RETURN_IF_ERROR(Set(conf.get(), "security.protocol", ProtocolOf(options)));
  if (options.tls.has_value()) RETURN_IF_ERROR(SetTls(conf.get(), *options.tls));
  if (options.sasl.has_value()) RETURN_IF_ERROR(SetSasl(conf.get(), *options.sasl));
  rd_kafka_conf_set_opaque(conf.get(), state.get());
  rd_kafka_conf_set_error_cb(conf.get(), State::OnError);
  rd_kafka_conf_set_log_cb(conf.get(), State::OnLog);
  rd_kafka_conf_set_socket_cb(conf.get(), State::OnSocket);
  char error[512];
  state->client.reset(rd_kafka_new(RD_KAFKA_CONSUMER, conf.get(), error, sizeof(error)));
  if (state->client == nullptr) {
    return absl::FailedPreconditionError(StrCat("topic ", options.topic, ": ", std::string_view(error)));
  }
  (void)conf.release();  // the client's now
  state->queue.reset(rd_kafka_queue_new(state->client.get()));
  state->handle.reset(rd_kafka_topic_new(state->client.get(), options.topic.c_str(), nullptr));
  if (state->handle == nullptr) return state->Error("it cannot be read", rd_kafka_last_error());
  return std::unique_ptr<TopicReader>(new TopicReader(std::move(state)));
}

absl::StatusOr<TopicReader::Description> TopicReader::Describe(std::chrono::milliseconds timeout) {
  const int milliseconds = static_cast<int>(timeout.count());
  const struct rd_kafka_metadata* metadata = nullptr;
  const rd_kafka_resp_err_t error =
      rd_kafka_metadata(state_->client.get(), 0, state_->handle.get(), &metadata, milliseconds);
  rd_kafka_poll(state_->client.get(), 0);  // has the callbacks called
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return state_->Error("its brokers do not answer", error);
  const Owned<const struct rd_kafka_metadata, rd_kafka_metadata_destroy> owner(metadata);
  if (metadata->broker_cnt > kMostBrokers) {
    return absl::FailedPreconditionError(StrCat("topic ", state_->topic, ": its cluster has ", metadata->broker_cnt,
                                                " brokers; ", kMostBrokers, " can be followed"));
  }
  if (metadata->topic_cnt != 1) return state_->Error("it is not described", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
  if (metadata->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return state_->Error("it cannot be read", metadata->topics[0].err);
  }
  Description description;
  description.partitions = metadata->topics[0].partition_cnt;
  if (char* const id = rd_kafka_clusterid(state_->client.get(), milliseconds); id != nullptr) {
    description.cluster = id;
    rd_kafka_mem_free(state_->client.get(), id);
  }
  return description;
}

absl::Status TopicReader::Begin(int32_t partition, int64_t offset) {
  static_assert(kBeginning == RD_KAFKA_OFFSET_BEGINNING);
  if (rd_kafka_consume_start_queue(state_->handle.get(), partition, offset, state_->queue.get()) != 0) {
    return state_->Error("it cannot be read", rd_kafka_last_error());
  }
  state_->begun.push_back(partition);
  return absl::OkStatus();
}

absl::StatusOr<TopicReader::Event> TopicReader::Next(std::chrono::milliseconds timeout) {
  Event event;
  state_->current.reset(rd_kafka_consume_queue(state_->queue.get(), static_cast<int>(timeout.count())));
  rd_kafka_poll(state_->client.get(), 0);
  const rd_kafka_message_t* const message = state_->current.get();
  if (message == nullptr) return event;
  event.partition = message->partition;
  event.offset = message->offset;
  if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
    event.kind = Event::Kind::kEnd;
    return event;
  }
  if (IsOutOfRange(message->err)) {
    return absl::OutOfRangeError(StrCat("topic ", state_->topic, ": partition ", message->partition,
                                        " has nothing at the offset up to which it was read"));
  }
  if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) return state_->Error("it cannot be read", message->err);
  event.kind = Event::Kind::kRecord;
  event.time = rd_kafka_message_timestamp(message, nullptr);
  event.key = Bytes(static_cast<const uint8_t*>(message->key), message->key_len);
  if (message->payload != nullptr) event.value = Bytes(static_cast<const uint8_t*>(message->payload), message->len);
  return event;
}

absl::StatusOr<std::vector<int64_t>> TopicReader::ReadEnds(std::chrono::milliseconds timeout) {
  const size_t count = state_->begun.size();
  const PartitionList list(rd_kafka_topic_partition_list_new(static_cast<int>(count)));
  for (const int32_t partition : state_->begun) {
    rd_kafka_topic_partition_list_add(list.get(), state_->topic.c_str(), partition)->offset = RD_KAFKA_OFFSET_END;
  }
  const rd_kafka_resp_err_t error =
      rd_kafka_offsets_for_times(state_->client.get(), list.get(), static_cast<int>(timeout.count()));
  rd_kafka_poll(state_->client.get(), 0);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return state_->Error("its brokers do not answer", error);
  std::vector<int64_t> ends(count);
  for (int i = 0; i < list->cnt; ++i) {
    const rd_kafka_topic_partition_t& one = list->elems[i];
    if (one.err != RD_KAFKA_RESP_ERR_NO_ERROR) return state_->Error("its end is not known", one.err);
    // The brokers answer with what is committed. What the last fetch has told is the end of all.
    int64_t low = 0, high = 0;
    rd_kafka_get_watermark_offsets(state_->client.get(), state_->topic.c_str(), one.partition, &low, &high);
    if (one.offset < 0) return state_->Error("its end is not known", RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE);
    if (one.partition < 0 || static_cast<size_t>(one.partition) >= count) continue;
    ends[one.partition] = std::max(one.offset, high);
  }
  const MutexLock lock(state_->mutex);
  state_->trouble.clear();
  return ends;
}

}  // namespace kveil::consents
