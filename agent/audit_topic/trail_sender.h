// Sends the lines of an audit trail to a topic, on a thread of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "kafka_client/client.h"

namespace kveil::audit_topic {

struct TrailSenderOptions {
  std::string folder;  // of the trail
  std::string agent;   // its name
  kafka_client::Options client;
  // How often it looks for new lines, and how long it waits after a failure.
  std::chrono::milliseconds look = std::chrono::seconds(1);
  std::chrono::milliseconds pause = std::chrono::seconds(5);
};

// Every line that was signed comes into the topic at least once, in order, with the trail's own key as the record's
// key: after a crash or a failure, the last ones come again. It keeps nothing in memory that waits: while the brokers
// are away, the lines are in the folder, for as long as `audit.keep` and `audit.maxSize` say. Lines that are removed
// before they were sent are told of in the topic, and in `problem` for a day.
class TrailSender {
 public:
  explicit TrailSender(TrailSenderOptions options);
  ~TrailSender() { Stop(std::chrono::milliseconds(0)); }

  // Sends what was written until now, as far as that takes no longer than `limit`, and ends. A thread that waits for
  // something that cannot be interrupted, such as the look-up of a host name, is left behind a second later: it touches
  // nothing of others any more.
  void Stop(std::chrono::milliseconds limit);

  struct Status {
    absl::Status problem;  // not OK: in words for the operator
    std::string note;      // how far it is
    uint64_t sent = 0;     // lines, since the start
    uint64_t behind = 0;   // lines that were signed and not sent yet
    uint64_t missed = 0;   // lines that were removed before they were sent, since the start
  };
  // Any thread.
  Status status() const;

 private:
  struct Shared;
  class Sending;
  static void Run(std::shared_ptr<Shared> shared);

  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

// What tells a trail apart: the SHA-256 of its public key, as `kveil audit key` prints it, in hexadecimal digits.
// Errors: those of evidence::ReadFile.
absl::StatusOr<std::string> TrailId(const std::string& folder);

}  // namespace kveil::audit_topic
