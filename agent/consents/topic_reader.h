// Reads all partitions of a topic from given offsets, with librdkafka.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "kafka_client/client.h"

namespace kveil::consents {

// One thread uses it. What waits in memory to be taken is a few MiB, as the brokers send it: at most 256 KiB of batches
// at a time, or one that is larger. What compressed ones unpack to has no bound here, except with zstd: whoever writes
// to the topic is trusted. Only committed records are read.
//
// Errors are kUnavailable: the brokers cannot be reached or refuse; or kOutOfRange: a partition has nothing at the
// offset that was asked for, as the topic is another one or records are gone. They hold nothing of a record.
class TopicReader {
 public:
  // Connects in the background. Errors: those of kafka_client::Client.
  // `fetchWait`: how long the brokers wait for a record before they answer that there is none. ReadEnds may wait for
  // it.
  static absl::StatusOr<std::unique_ptr<TopicReader>> Open(kafka_client::Options options,
                                                           std::chrono::milliseconds fetchWait);
  ~TopicReader();

  using Description = kafka_client::Client::Description;
  absl::StatusOr<Description> Describe(std::chrono::milliseconds timeout);

  static constexpr int64_t kBeginning = -2;  // an offset
  // Once for each partition.
  absl::Status Begin(int32_t partition, int64_t offset);

  struct Event {
    enum class Kind { kNothing, kRecord, kEnd };
    Kind kind = Kind::kNothing;
    int32_t partition = 0;
    int64_t offset = 0;  // of the record; kEnd: the one that the next record will have at least
    // Of a record. Valid until the next call.
    int64_t time = 0;  // milliseconds since 1970
    Bytes key;
    std::optional<Bytes> value;  // nullopt: a tombstone
  };
  // kNothing: nothing has come within the timeout.
  absl::StatusOr<Event> Next(std::chrono::milliseconds timeout);

  // The offsets after the last record of each partition, asked of the brokers now, those of open transactions included.
  absl::StatusOr<std::vector<int64_t>> ReadEnds(std::chrono::milliseconds timeout);

 private:
  struct State;
  explicit TopicReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::consents
