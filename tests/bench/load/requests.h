// The requests that the load generator sends, in versions that every broker from Kafka 2.4 on takes, and their answers.
// A request has its length in front; an answer has not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"

namespace kveil::load {

inline constexpr int16_t kProduceVersion = 9;
inline constexpr int16_t kFetchVersion = 11;
inline constexpr int16_t kMetadataVersion = 9;
inline constexpr int16_t kCreateTopicsVersion = 5;
inline constexpr int16_t kApiVersionsVersion = 3;

ByteBuffer ApiVersionsRequest();
// With the broker's number of replicas.
ByteBuffer CreateTopicRequest(std::string_view topic, int32_t partitions);
ByteBuffer MetadataRequest(std::string_view topic);
ByteBuffer ProduceRequest(std::string_view topic, int32_t partition, int16_t acks, Bytes batch);
// What follows an offset, as soon as there is something.
ByteBuffer FetchRequest(std::string_view topic, int32_t partition, int64_t offset);

// Reads an answer, whose bytes must outlive it. Error codes in it are not looked at.
template <class Response>
absl::StatusOr<Response> ReadAnswer(Bytes answer, int16_t version);

// The offset of the one batch that was produced. An error code of the broker is an error, named in its message:
// kUnavailable if the partition has no leader there (yet).
absl::StatusOr<int64_t> ProducedOffset(Bytes answer);
// OK when the topic was created or was there.
absl::Status CheckCreated(Bytes answer);
absl::Status CheckApiVersions(Bytes answer);

// Values of exactly `size` bytes: JSON objects with one of 1,000 users' ids and random letters.
// kInvalidArgument: too short for that.
absl::StatusOr<std::vector<std::string>> MakeValues(size_t size);

}  // namespace kveil::load
