#include "guard/metadata_guard.h"

#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"

namespace kveil::guard {
namespace {

using proxy::RequestVerdict;
using proxy::ResponseVerdict;

kafka::VersionRange ReadableVersions(kafka::ApiKey api) {
  if (api == kafka::ApiKey::kMetadata) return kafka::MetadataResponse::kVersions;
  if (api == kafka::ApiKey::kFindCoordinator) return kafka::FindCoordinatorResponse::kVersions;
  return kafka::DescribeClusterResponse::kVersions;
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

absl::StatusOr<std::vector<MetadataGuard::Broker>> MetadataGuard::BrokersIn(const proxy::ResponseFrame& response) {
  std::vector<Broker> brokers;
  const auto add = [&brokers](std::string_view host, int32_t port) {
    Broker& broker = brokers.emplace_back();
    broker.host = host;
    broker.port = port;
  };
  if (response.apiKey == kafka::ApiKey::kMetadata) {
    const auto metadata = kafka::Decode<kafka::MetadataResponse>(response.body, response.version);
    if (!metadata.ok()) return metadata.status();
    for (const auto& broker : metadata->brokers) add(broker.host, broker.port);
    for (const auto& topic : metadata->topics) {
      if (topic.name.has_value()) shared_.topicNames.Learn(topic.topicId, *topic.name);
    }
  } else if (response.apiKey == kafka::ApiKey::kFindCoordinator) {
    const auto found = kafka::Decode<kafka::FindCoordinatorResponse>(response.body, response.version);
    if (!found.ok()) return found.status();
    add(found->host, found->port);
    for (const auto& coordinator : found->coordinators) add(coordinator.host, coordinator.port);
  } else {
    const auto cluster = kafka::Decode<kafka::DescribeClusterResponse>(response.body, response.version);
    if (!cluster.ok()) return cluster.status();
    for (const auto& broker : cluster->brokers) add(broker.host, broker.port);
  }
  return brokers;
}

io::Task<ResponseVerdict> MetadataGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                                    proxy::FrameOutput&) {
  const absl::StatusOr<std::vector<Broker>> brokers = BrokersIn(response);
  if (!brokers.ok()) co_return ResponseVerdict::Close(std::string(brokers.status().message()));
  for (const Broker& broker : *brokers) {
    auto learning = shared_.brokers.Learn(loop_, broker.host, broker.port, connection_.targetIndex);
    const absl::Status learned = co_await std::move(learning);
    if (!learned.ok()) co_return ResponseVerdict::Close(std::string(learned.message()));
  }
  co_return ResponseVerdict::Forward();
}

}  // namespace kveil::guard
