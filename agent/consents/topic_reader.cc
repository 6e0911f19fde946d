#include "consents/topic_reader.h"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::consents {
namespace {

using kafka_client::Owned;
using Message = Owned<rd_kafka_message_t, rd_kafka_message_destroy>;
using PartitionList = Owned<rd_kafka_topic_partition_list_t, rd_kafka_topic_partition_list_destroy>;

// Bounds of what waits in memory: librdkafka stops fetching a partition beyond queued.max.messages.kbytes, and unpacks
// at once all that a broker sends at once. It raises fetch.max.bytes to message.max.bytes.
constexpr kafka_client::Setting kSettings[] = {
    {"allow.auto.create.topics", "false"},  {"isolation.level", "read_committed"}, {"auto.offset.reset", "error"},
    {"enable.auto.commit", "false"},        {"enable.partition.eof", "true"},      {"check.crcs", "true"},
    {"fetch.message.max.bytes", "262144"},  {"fetch.max.bytes", "262144"},         {"message.max.bytes", "262144"},
    {"queued.max.messages.kbytes", "4096"},
};

// Whether the topic has nothing at the offset that was asked for.
bool IsOutOfRange(rd_kafka_resp_err_t error) {
  return error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE || error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET;
}

}  // namespace

struct TopicReader::State {
  std::unique_ptr<kafka_client::Client> client;
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

  rd_kafka_t* get() const { return client->get(); }
  const std::string& topic() const { return client->topic(); }
  absl::Status Error(std::string_view what, rd_kafka_resp_err_t error) const { return client->Error(what, error); }
};

TopicReader::TopicReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
TopicReader::~TopicReader() = default;

absl::StatusOr<std::unique_ptr<TopicReader>> TopicReader::Open(kafka_client::Options options,
                                                               std::chrono::milliseconds fetchWait) {
  auto state = std::make_unique<State>();
  const std::string wait = StrCat(fetchWait.count());
  std::vector<kafka_client::Setting> settings(std::begin(kSettings), std::end(kSettings));
  settings.emplace_back("fetch.wait.max.ms", wait.c_str());
  ASSIGN_OR_RETURN(state->client, kafka_client::Client::Open(RD_KAFKA_CONSUMER, std::move(options), settings));
  state->queue.reset(rd_kafka_queue_new(state->get()));
  state->handle.reset(rd_kafka_topic_new(state->get(), state->topic().c_str(), nullptr));
  if (state->handle == nullptr) return state->Error("it cannot be read", rd_kafka_last_error());
  return std::unique_ptr<TopicReader>(new TopicReader(std::move(state)));
}

absl::StatusOr<TopicReader::Description> TopicReader::Describe(std::chrono::milliseconds timeout) {
  return state_->client->Describe(state_->handle.get(), timeout);
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
  rd_kafka_poll(state_->get(), 0);
  const rd_kafka_message_t* const message = state_->current.get();
  if (message == nullptr) return event;
  event.partition = message->partition;
  event.offset = message->offset;
  if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
    event.kind = Event::Kind::kEnd;
    return event;
  }
  if (IsOutOfRange(message->err)) {
    return absl::OutOfRangeError(StrCat("topic ", state_->topic(), ": partition ", message->partition,
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
    rd_kafka_topic_partition_list_add(list.get(), state_->topic().c_str(), partition)->offset = RD_KAFKA_OFFSET_END;
  }
  const rd_kafka_resp_err_t error =
      rd_kafka_offsets_for_times(state_->get(), list.get(), static_cast<int>(timeout.count()));
  rd_kafka_poll(state_->get(), 0);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return state_->Error("its brokers do not answer", error);
  std::vector<int64_t> ends(count);
  for (int i = 0; i < list->cnt; ++i) {
    const rd_kafka_topic_partition_t& one = list->elems[i];
    if (one.err != RD_KAFKA_RESP_ERR_NO_ERROR) return state_->Error("its end is not known", one.err);
    // The brokers answer with what is committed. What the last fetch has told is the end of all.
    int64_t low = 0, high = 0;
    rd_kafka_get_watermark_offsets(state_->get(), state_->topic().c_str(), one.partition, &low, &high);
    if (one.offset < 0) return state_->Error("its end is not known", RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE);
    if (one.partition < 0 || static_cast<size_t>(one.partition) >= count) continue;
    ends[one.partition] = std::max(one.offset, high);
  }
  state_->client->ForgetTrouble();
  return ends;
}

}  // namespace kveil::consents
