#include "kafka_client/client.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "crypto/secret_file.h"

namespace kveil::kafka_client {
namespace {

using config::KafkaClientConfig;

constexpr int kWarning = 4;  // syslog(3)
constexpr size_t kLongestLogText = 500;
// librdkafka starts a thread for each broker that it is told of, and ends it with the client only.
constexpr int kMostBrokers = 1000;

// Before, librdkafka appends its nonce to the server's, which has it already; brokers of Kafka 4 compare the two
// (RFC 5802, section 5.1; https://github.com/confluentinc/librdkafka/pull/4895).
constexpr int kScramIsRight = 0x020601ff;

constexpr Setting kSettings[] = {
    {"client.id", "kveil"},
    {"topic.metadata.refresh.interval.ms", "10000"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    {"reconnect.backoff.max.ms", "2000"},
    {"receive.message.max.bytes", "16777216"},
    {"log.connection.close", "false"},
};

absl::Status Set(rd_kafka_conf_t* conf, const char* name, const std::string& value) {
  char error[256];
  if (rd_kafka_conf_set(conf, name, value.c_str(), error, sizeof(error)) == RD_KAFKA_CONF_OK) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat("librdkafka does not take ", name));  // its text may show the value
}

absl::Status SetTls(rd_kafka_conf_t* conf, const KafkaClientConfig::Tls& tls) {
  RETURN_IF_ERROR(Set(conf, "ssl.endpoint.identification.algorithm", "https"));
  for (const auto& [name, path] : {std::pair{"ssl.ca.location", &tls.ca},
                                   {"ssl.certificate.location", &tls.certificate},
                                   {"ssl.key.location", &tls.key},
                                   {"ssl.crl.location", &tls.crl}}) {
    if (!path->empty()) RETURN_IF_ERROR(Set(conf, name, *path));
  }
  return absl::OkStatus();
}

absl::Status SetSasl(rd_kafka_conf_t* conf, const KafkaClientConfig::Sasl& sasl) {
  ASSIGN_OR_RETURN(const crypto::SecretText password, crypto::ReadSecret(sasl.passwordFile));
  RETURN_IF_ERROR(Set(conf, "sasl.mechanism", sasl.mechanism));
  RETURN_IF_ERROR(Set(conf, "sasl.username", sasl.username));
  return Set(conf, "sasl.password", std::string(crypto::AsText(password)));
}

const char* ProtocolOf(const KafkaClientConfig& connection) {
  if (connection.sasl.has_value()) return connection.tls.has_value() ? "sasl_ssl" : "sasl_plaintext";
  return connection.tls.has_value() ? "ssl" : "plaintext";
}

absl::Status SetConnection(rd_kafka_conf_t* conf, const KafkaClientConfig& connection) {
  RETURN_IF_ERROR(Set(conf, "bootstrap.servers", absl::StrJoin(connection.bootstrapServers, ",")));
  RETURN_IF_ERROR(Set(conf, "security.protocol", ProtocolOf(connection)));
  if (connection.tls.has_value()) RETURN_IF_ERROR(SetTls(conf, *connection.tls));
  return connection.sasl.has_value() ? SetSasl(conf, *connection.sasl) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Open(rd_kafka_type_t type, Options options,
                                                     absl::Span<const Setting> settings) {
  std::unique_ptr<Client> client(new Client(std::move(options)));
  Owned<rd_kafka_conf_t, rd_kafka_conf_destroy> conf(rd_kafka_conf_new());
  for (const auto& [name, value] : kSettings) RETURN_IF_ERROR(Set(conf.get(), name, value));
  for (const auto& [name, value] : settings) RETURN_IF_ERROR(Set(conf.get(), name, value));
  RETURN_IF_ERROR(SetConnection(conf.get(), client->options_.connection));
  rd_kafka_conf_set_opaque(conf.get(), client.get());
  rd_kafka_conf_set_error_cb(conf.get(), OnError);
  rd_kafka_conf_set_log_cb(conf.get(), OnLog);
  rd_kafka_conf_set_socket_cb(conf.get(), OnSocket);
  if (client->options_.onDelivery) rd_kafka_conf_set_dr_msg_cb(conf.get(), OnDelivery);
  char error[512];
  client->client_.reset(rd_kafka_new(type, conf.get(), error, sizeof(error)));
  if (client->client_ == nullptr) {
    return absl::FailedPreconditionError(StrCat("topic ", client->topic(), ": ", std::string_view(error)));
  }
  (void)conf.release();  // the client's now
  return client;
}

absl::StatusOr<Client::Description> Client::Describe(rd_kafka_topic_t* topic, std::chrono::milliseconds timeout) {
  const int milliseconds = static_cast<int>(timeout.count());
  const struct rd_kafka_metadata* metadata = nullptr;
  const rd_kafka_resp_err_t error = rd_kafka_metadata(get(), 0, topic, &metadata, milliseconds);
  rd_kafka_poll(get(), 0);  // has the callbacks called
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return Error("its brokers do not answer", error);
  const Owned<const struct rd_kafka_metadata, rd_kafka_metadata_destroy> owner(metadata);
  if (metadata->broker_cnt > kMostBrokers) {
    return absl::FailedPreconditionError(StrCat("topic ", options_.topic, ": its cluster has ", metadata->broker_cnt,
                                                " brokers; ", kMostBrokers, " can be talked to"));
  }
  if (metadata->topic_cnt != 1) return Error("it is not described", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
  if (metadata->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return Error("it cannot be used", metadata->topics[0].err);
  }
  Description description;
  description.partitions = metadata->topics[0].partition_cnt;
  if (char* const id = rd_kafka_clusterid(get(), milliseconds); id != nullptr) {
    description.cluster = id;
    rd_kafka_mem_free(get(), id);
  }
  return description;
}

absl::Status Client::Error(std::string_view what, rd_kafka_resp_err_t error) {
  std::string text = StrCat("topic ", topic(), ": ", what, ": ", rd_kafka_err2str(error));
  const MutexLock lock(mutex_);
  if (!trouble_.empty()) StrAppend(&text, " (", trouble_, ")");
  const auto& sasl = options_.connection.sasl;
  const bool isScram = sasl.has_value() && sasl->mechanism.rfind("SCRAM", 0) == 0;
  const bool isRefused = absl::StrContains(trouble_, rd_kafka_err2str(RD_KAFKA_RESP_ERR__AUTHENTICATION));
  if (isScram && isRefused && rd_kafka_version() < kScramIsRight) {
    StrAppend(&text,
              "; the user or the password may be wrong, or the broker is of Kafka 4: it refuses SCRAM of librdkafka ",
              rd_kafka_version_str(), "; use PLAIN over TLS, or a client certificate");
  }
  return absl::UnavailableError(text);
}

void Client::ForgetTrouble() {
  const MutexLock lock(mutex_);
  trouble_.clear();
}

// Callbacks, also of threads of librdkafka.
void Client::OnError(rd_kafka_t*, int error, const char* reason, void* self) {
  auto* const client = static_cast<Client*>(self);
  const MutexLock lock(client->mutex_);
  // The error before says why.
  if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && !client->trouble_.empty()) return;
  client->trouble_ = StrCat(rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(error)), ": ",
                            std::string_view(reason).substr(0, kLongestLogText));
}

void Client::OnLog(const rd_kafka_t* client, int level, const char* facility, const char* text) {
  if (level > kWarning) return;
  log::Warning(static_cast<const Client*>(rd_kafka_opaque(client))->options_.event,
               {{"about", facility}, {"text", std::string_view(text).substr(0, kLongestLogText)}});
}

int Client::OnSocket(int domain, int type, int protocol, void* self) {
  UniqueFd fd(::socket(domain, type | SOCK_CLOEXEC, protocol));
  if (!fd.valid() || !static_cast<Client*>(self)->options_.tagAsOwn(fd.get())) return -1;
  return fd.Release();
}

void Client::OnDelivery(rd_kafka_t*, const rd_kafka_message_t* record, void* self) {
  static_cast<Client*>(self)->options_.onDelivery(*record);
}

}  // namespace kveil::kafka_client
