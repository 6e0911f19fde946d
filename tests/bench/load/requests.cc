#include "load/requests.h"

#include <random>

#include "base/status_macros.h"
#include "base/text.h"
#include "kafka/error_code.h"
#include "kafka/frame.h"
#include "kafka/messages/api_versions.h"
#include "kafka/messages/create_topics.h"

namespace kveil::load {
namespace {

using kafka::ApiKey;
using kafka::ErrorCode;

// Of letters, digits, dots and hyphens: brokers refuse other names of software (KIP-511).
constexpr std::string_view kClientId = "kafka-load";
constexpr int32_t kTimeoutMs = 10'000;
constexpr int kUsers = 1000;
constexpr size_t kValues = 2000;

// `body(writer)` writes what follows the header.
template <typename Body>
ByteBuffer Frame(ApiKey api, int16_t version, Body&& body) {
  kafka::FrameWriter writer;
  writer.BeginFrame();
  kafka::WriteRequestHeader(api, version, 1, kClientId, writer);
  body(writer);
  writer.FinishFrame();
  return writer.ToBuffer();
}

template <class Message>
ByteBuffer FrameOf(const Message& message, int16_t version) {
  return Frame(Message::kApiKey, version, [&](kafka::FrameWriter& writer) { kafka::Encode(message, version, writer); });
}

absl::Status CheckError(std::string_view what, ErrorCode code) {
  if (code == ErrorCode::kNone) return absl::OkStatus();
  const std::string message = StrCat(what, ": ", kafka::ErrorName(code));
  const bool hasNoLeader = code == ErrorCode::kNotLeaderOrFollower || code == ErrorCode::kLeaderNotAvailable ||
                           code == ErrorCode::kUnknownTopicOrPartition;
  return hasNoLeader ? absl::UnavailableError(message) : absl::InternalError(message);
}

absl::Status Unexpected(std::string_view what) {
  return absl::InternalError(StrCat(what, ": the answer is not about what was asked"));
}

}  // namespace

ByteBuffer ApiVersionsRequest() {
  kafka::ApiVersionsRequest request;
  request.clientSoftwareName = kClientId;
  request.clientSoftwareVersion = "1";
  return FrameOf(request, kApiVersionsVersion);
}

// CreateTopicsRequest.json, of which agent/kafka reads the response only.
ByteBuffer CreateTopicRequest(std::string_view topic, int32_t partitions) {
  return Frame(ApiKey::kCreateTopics, kCreateTopicsVersion, [&](kafka::FrameWriter& writer) {
    constexpr int16_t kReplicasOfTheBroker = -1;
    writer.UnsignedVarint(1 + 1);  // topics: one
    writer.UnsignedVarint(topic.size() + 1);
    writer.Copy(topic);
    writer.Int(partitions);
    writer.Int(kReplicasOfTheBroker);
    writer.UnsignedVarint(0 + 1);  // assignments: none
    writer.UnsignedVarint(0 + 1);  // configs: none
    writer.UnsignedVarint(0);      // tags of the topic
    writer.Int(kTimeoutMs);
    writer.Int(int8_t{0});     // not only to validate
    writer.UnsignedVarint(0);  // tags
  });
}

ByteBuffer MetadataRequest(std::string_view topic) {
  kafka::MetadataRequest request;
  request.topics->push_back({.name = topic});
  request.allowAutoTopicCreation = false;
  return FrameOf(request, kMetadataVersion);
}

ByteBuffer ProduceRequest(std::string_view topic, int32_t partition, int16_t acks, Bytes batch) {
  kafka::ProduceRequest request;
  request.acks = acks;
  request.timeoutMs = kTimeoutMs;
  request.topicData.resize(1);
  request.topicData[0].name = topic;
  request.topicData[0].partitionData.push_back({.index = partition, .records = batch});
  return FrameOf(request, kProduceVersion);
}

ByteBuffer FetchRequest(std::string_view topic, int32_t partition, int64_t offset) {
  constexpr int32_t kMostBytes = 1 << 20;
  kafka::FetchRequest request;
  request.maxWaitMs = 500;
  request.minBytes = 1;
  request.maxBytes = kMostBytes;
  request.topics.resize(1);
  request.topics[0].topic = topic;
  request.topics[0].partitions.push_back(
      {.partition = partition, .fetchOffset = offset, .partitionMaxBytes = kMostBytes});
  return FrameOf(request, kFetchVersion);
}

template <class Response>
absl::StatusOr<Response> ReadAnswer(Bytes answer, int16_t version) {
  ASSIGN_OR_RETURN(const kafka::ResponseHeader header, kafka::ReadResponseHeader(answer, Response::kApiKey, version));
  return kafka::Decode<Response>(answer.subspan(header.size), version);
}
template absl::StatusOr<kafka::MetadataResponse> ReadAnswer(Bytes, int16_t);
template absl::StatusOr<kafka::FetchResponse> ReadAnswer(Bytes, int16_t);

absl::StatusOr<int64_t> ProducedOffset(Bytes answer) {
  ASSIGN_OR_RETURN(const auto response, ReadAnswer<kafka::ProduceResponse>(answer, kProduceVersion));
  if (response.responses.size() != 1 || response.responses[0].partitionResponses.size() != 1) {
    return Unexpected("Produce");
  }
  const auto& partition = response.responses[0].partitionResponses[0];
  RETURN_IF_ERROR(CheckError("Produce", partition.errorCode));
  return partition.baseOffset;
}

absl::Status CheckCreated(Bytes answer) {
  ASSIGN_OR_RETURN(const auto response, ReadAnswer<kafka::CreateTopicsResponse>(answer, kCreateTopicsVersion));
  if (response.topics.size() != 1) return Unexpected("CreateTopics");
  const ErrorCode code = response.topics[0].errorCode;
  return code == ErrorCode::kTopicAlreadyExists ? absl::OkStatus() : CheckError("CreateTopics", code);
}

absl::Status CheckApiVersions(Bytes answer) {
  ASSIGN_OR_RETURN(const auto response, ReadAnswer<kafka::ApiVersionsResponse>(answer, kApiVersionsVersion));
  return CheckError("ApiVersions", response.errorCode);
}

absl::StatusOr<std::vector<std::string>> MakeValues(size_t size) {
  std::mt19937 dice(static_cast<uint32_t>(size));
  std::vector<std::string> values;
  for (size_t i = 0; i < kValues; ++i) {
    std::string value = StrCat(R"({"userid": ")", dice() % kUsers, R"(", "text": ")");
    if (value.size() + 2 > size) return absl::InvalidArgumentError(StrCat("records of ", size, " bytes are too short"));
    while (value.size() + 2 < size) value += static_cast<char>('a' + dice() % 26);
    values.push_back(value + "\"}");
  }
  return values;
}

}  // namespace kveil::load
