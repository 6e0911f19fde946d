#include "guard/metadata_guard.h"

#include <optional>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"

namespace kveil::guard {
namespace {

using proxy::RequestVerdict;
using proxy::ResponseVerdict;

kafka::VersionRange ReadableVersions(kafka::ApiKey api) {
  switch (api) {
    case kafka::ApiKey::kMetadata:
      return kafka::MetadataResponse::kVersions;
    case kafka::ApiKey::kFindCoordinator:
      return kafka::FindCoordinatorResponse::kVersions;
    case kafka::ApiKey::kCreateTopics:
      return kafka::CreateTopicsResponse::kVersions;
    case kafka::ApiKey::kDescribeTopicPartitions:
      return kafka::DescribeTopicPartitionsResponse::kVersions;
    default:
      return kafka::DescribeClusterResponse::kVersions;
  }
}

template <class Response, class Use>
absl::Status ReadAs(const proxy::ResponseFrame& response, Use use) {
  const absl::StatusOr<Response> decoded = kafka::Decode<Response>(response.body, response.version);
  if (decoded.ok()) use(*decoded);
  return decoded.status();
}

template <class Topics>
void LearnFrom(const Topics& topics, TopicNames& names) {
  for (const auto& topic : topics) {
    const std::optional<std::string_view> name = topic.name;
    if (name.has_value()) names.Learn(topic.topicId, *name);
  }
}

}  // namespace

io::Task<RequestVerdict> MetadataGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                  proxy::FrameOutput&) {
  if (!ReadableVersions(request.header.apiKey).Contains(request.header.version)) {
    co_return RequestVerdict::Close(StrCat(kafka::ApiName(request.header.apiKey), " version ", request.header.version,
                                           ", which the agent cannot read"));
  }
  co_return RequestVerdict::Forward().WantResponse();
}

absl::Status MetadataGuard::Read(const proxy::ResponseFrame& response, std::vector<Broker>& brokers) {
  const auto add = [&brokers](const auto& broker) { brokers.push_back({broker.host, broker.port}); };
  switch (response.apiKey) {
    case kafka::ApiKey::kMetadata:
      return ReadAs<kafka::MetadataResponse>(response, [&](const auto& metadata) {
        for (const auto& broker : metadata.brokers) add(broker);
        LearnFrom(metadata.topics, shared_.topicNames);
      });
    case kafka::ApiKey::kFindCoordinator:
      return ReadAs<kafka::FindCoordinatorResponse>(response, [&](const auto& found) {
        add(found);
        for (const auto& coordinator : found.coordinators) add(coordinator);
      });
    case kafka::ApiKey::kCreateTopics:
      return ReadAs<kafka::CreateTopicsResponse>(
          response, [&](const auto& created) { LearnFrom(created.topics, shared_.topicNames); });
    case kafka::ApiKey::kDescribeTopicPartitions:
      return ReadAs<kafka::DescribeTopicPartitionsResponse>(
          response, [&](const auto& described) { LearnFrom(described.topics, shared_.topicNames); });
    default:
      return ReadAs<kafka::DescribeClusterResponse>(response, [&](const auto& cluster) {
        for (const auto& broker : cluster.brokers) add(broker);
      });
  }
}

io::Task<ResponseVerdict> MetadataGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                                    proxy::FrameOutput&) {
  std::vector<Broker> brokers;
  const absl::Status read = Read(response, brokers);
  if (!read.ok()) co_return ResponseVerdict::Close(std::string(read.message()));
  for (const Broker& broker : brokers) {
    auto learning = shared_.brokers.Learn(loop_, broker.host, broker.port, connection_.targetIndex);
    const absl::Status learned = co_await std::move(learning);
    if (!learned.ok()) co_return ResponseVerdict::Close(std::string(learned.message()));
  }
  co_return ResponseVerdict::Forward();
}

}  // namespace kveil::guard
