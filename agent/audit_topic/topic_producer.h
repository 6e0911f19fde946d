// Writes records to a topic.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kafka_client/client.h"

namespace kveil::audit_topic {

// An idempotent producer (KIP-98): while it lives, the records of a key come into the topic in their order, and each
// once. One thread uses it.
class TopicProducer {
 public:
  // Asks the brokers for the topic. Errors: those of kafka_client::Client. kUnavailable: the brokers cannot be reached,
  // refuse, or have no such topic.
  static absl::StatusOr<std::unique_ptr<TopicProducer>> Open(kafka_client::Options options,
                                                             std::chrono::milliseconds timeout);
  ~TopicProducer();

  const std::string& cluster() const { return cluster_; }  // its id

  struct Origin {
    std::string key;    // of each record
    std::string agent;  // a header of each
  };
  // Where a record is in the topic.
  struct Spot {
    int32_t partition = 0;
    int64_t offset = 0;
    friend bool operator==(const Spot&, const Spot&) = default;
  };
  struct Sent {
    Spot first, last;
  };
  // Waits until all in-sync replicas have them; at least one. `goesOn` is asked several times per second. An error:
  // some of them may be in the topic, and this producer is of no more use. kCancelled: `goesOn` said no. nullopt: they
  // are there, and the brokers do not say where, as when they had them already.
  absl::StatusOr<std::optional<Sent>> Send(const Origin& origin, absl::Span<const std::string> values,
                                           absl::FunctionRef<bool()> goesOn);

 private:
  TopicProducer() = default;
  void OnDelivery(const rd_kafka_message_t& record);

  std::string cluster_;
  size_t waiting_ = 0;                                        // records of which it is not known what became
  std::optional<Sent> sent_;                                  // of the records that are known to be there
  rd_kafka_resp_err_t failure_ = RD_KAFKA_RESP_ERR_NO_ERROR;  // the first
  std::unique_ptr<kafka_client::Client> client_;              // ends first: it calls OnDelivery
};

}  // namespace kveil::audit_topic
