#include "audit_topic/topic_producer.h"

#include <utility>

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::audit_topic {
namespace {

constexpr int kPollMilliseconds = 100;

// A record that is not acknowledged in time fails, and all from it on are sent again.
constexpr kafka_client::Setting kSettings[] = {
    {"enable.idempotence", "true"},  // acks=all
    {"message.timeout.ms", "30000"},
    {"compression.type", "lz4"},
    {"partitioner", "murmur2_random"},  // as Java's producers do it
};

}  // namespace

absl::StatusOr<std::unique_ptr<TopicProducer>> TopicProducer::Open(kafka_client::Options options,
                                                                   std::chrono::milliseconds timeout) {
  std::unique_ptr<TopicProducer> producer(new TopicProducer);
  options.onDelivery = [self = producer.get()](const rd_kafka_message_t& record) { self->OnDelivery(record); };
  ASSIGN_OR_RETURN(producer->client_, kafka_client::Client::Open(RD_KAFKA_PRODUCER, std::move(options), kSettings));
  kafka_client::Client& client = *producer->client_;
  const kafka_client::Owned<rd_kafka_topic_t, rd_kafka_topic_destroy> topic(
      rd_kafka_topic_new(client.get(), client.topic().c_str(), nullptr));
  if (topic == nullptr) return client.Error("it cannot be written", rd_kafka_last_error());
  ASSIGN_OR_RETURN(const kafka_client::Client::Description description, client.Describe(topic.get(), timeout));
  if (description.cluster.empty()) return absl::UnavailableError("the brokers do not say which cluster they are of");
  producer->cluster_ = description.cluster;
  return producer;
}

TopicProducer::~TopicProducer() {
  if (client_ == nullptr) return;
  constexpr int kAll = RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING;
  rd_kafka_purge(client_->get(), kAll);
}

void TopicProducer::OnDelivery(const rd_kafka_message_t& record) {
  --waiting_;
  if (failure_ == RD_KAFKA_RESP_ERR_NO_ERROR) failure_ = record.err;
  if (record.err != RD_KAFKA_RESP_ERR_NO_ERROR || record.offset < 0) return;
  const Spot spot{record.partition, record.offset};
  if (!sent_.has_value()) sent_ = Sent{spot, spot};
  sent_->last = spot;
}

absl::StatusOr<std::optional<TopicProducer::Sent>> TopicProducer::Send(const Origin& origin,
                                                                       absl::Span<const std::string> values,
                                                                       absl::FunctionRef<bool()> goesOn) {
  sent_.reset();
  for (const std::string& value : values) {
    const rd_kafka_resp_err_t error = rd_kafka_producev(
        client_->get(), RD_KAFKA_V_TOPIC(client_->topic().c_str()), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(origin.key.data(), origin.key.size()),
        RD_KAFKA_V_VALUE(const_cast<char*>(value.data()), value.size()),
        RD_KAFKA_V_HEADER("agent", origin.agent.data(), origin.agent.size()), RD_KAFKA_V_END);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) return client_->Error("it cannot be written", error);
    ++waiting_;
  }
  while (waiting_ > 0 && failure_ == RD_KAFKA_RESP_ERR_NO_ERROR) {
    rd_kafka_poll(client_->get(), kPollMilliseconds);
    if (waiting_ > 0 && !goesOn()) return absl::CancelledError("it was to end");
  }
  if (failure_ != RD_KAFKA_RESP_ERR_NO_ERROR) return client_->Error("it cannot be written", failure_);
  client_->ForgetTrouble();
  return sent_;
}

}  // namespace kveil::audit_topic
