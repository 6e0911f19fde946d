// A client of librdkafka, connected as the configuration says.
#pragma once

#include <librdkafka/rdkafka.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "config/kafka_client_config.h"

namespace kveil::kafka_client {

// What librdkafka gives out is ended by a function of its own: Owned<rd_kafka_topic_t, rd_kafka_topic_destroy>.
template <auto kDestroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle* handle) const {
    kDestroy(handle);
  }
};
template <typename Handle, auto kDestroy>
using Owned = std::unique_ptr<Handle, Destroy<kDestroy>>;

struct Options {
  config::KafkaClientConfig connection;
  std::string topic;  // for errors
  std::string event;  // of log lines with what librdkafka warns of
  // Marks a socket of this process as the agent's own before it connects. False: it cannot be used.
  std::function<bool(int fd)> tagAsOwn = [](int) { return true; };
  // Of a producer: what became of a record. Called by whoever polls.
  std::function<void(const rd_kafka_message_t& record)> onDelivery;
};

// A name and a value, as librdkafka has them (its CONFIGURATION.md).
using Setting = std::pair<const char*, const char*>;

// Errors hold nothing of a record, and no secret.
class Client {
 public:
  // Connects in the background. Reads the file of the password. kFailedPrecondition: it, or a file of TLS, or a
  // setting cannot be used.
  static absl::StatusOr<std::unique_ptr<Client>> Open(rd_kafka_type_t type, Options options,
                                                      absl::Span<const Setting> settings);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  rd_kafka_t* get() const { return client_.get(); }
  const std::string& topic() const { return options_.topic; }
  struct Description {
    std::string cluster;  // its id
    int32_t partitions = 0;
  };
  // Asks the brokers for the topic. kUnavailable: they do not answer, refuse, or have no such topic.
  // kFailedPrecondition: there are more of them than librdkafka should be told of.
  absl::StatusOr<Description> Describe(rd_kafka_topic_t* topic, std::chrono::milliseconds timeout);

  // kUnavailable: what failed, why, and what librdkafka said last of its connections. Any thread.
  absl::Status Error(std::string_view what, rd_kafka_resp_err_t error);
  // The brokers have answered: what was said of connections before explains no later error.
  void ForgetTrouble();

 private:
  explicit Client(Options options) : options_(std::move(options)) {}
  static void OnError(rd_kafka_t*, int error, const char* reason, void* self);
  static void OnLog(const rd_kafka_t* client, int level, const char* facility, const char* text);
  static int OnSocket(int domain, int type, int protocol, void* self);
  static void OnDelivery(rd_kafka_t*, const rd_kafka_message_t* record, void* self);

  const Options options_;
  Mutex mutex_;
  std::string trouble_ ABSL_GUARDED_BY(mutex_);  // what librdkafka said last of its connections
  Owned<rd_kafka_t, rd_kafka_destroy> client_;   // ends first: it calls the functions above
};

}  // namespace kveil::kafka_client
