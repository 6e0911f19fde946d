#include "guard/apis/metadata_guard.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/text.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/learn/advertised_brokers.h"
#include "io/turn.h"

namespace kveil::guard {
namespace {

using proxy::RequestVerdict;
using proxy::ResponseVerdict;

}  // namespace

io::Task<RequestVerdict> MetadataGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                  proxy::FrameOutput&) {
  if (!FindGuardedApi(request.header.apiKey)->versions.Contains(request.header.version)) {
    co_return RequestVerdict::Close(StrCat(kafka::ApiName(request.header.apiKey), " version ", request.header.version,
                                           ", which the agent cannot read"));
  }
  co_return RequestVerdict::Forward().WantResponse();
}

template <class Response>
io::Task<void> MetadataGuard::LearnTopics(const Response& response) {
  if constexpr (requires { response.topics; }) {
    io::Turn turn(loop_);
    for (const auto& topic : response.topics) {
      co_await turn.Pause();
      const std::optional<std::string_view> name = topic.name;
      if (name.has_value()) shared_.topicNames.Learn(topic.topicId, *name, connection_);
    }
  }
  co_return;
}

template <class Response>
io::Task<ResponseVerdict> MetadataGuard::Learn(const proxy::ResponseFrame& response, proxy::FrameOutput& output) {
  Decoded<Response> decoded(response.body, response.version, output.arena.budget());
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  auto learningTopics = LearnTopics(*decoded);
  co_await std::move(learningTopics);
  std::vector<bool> keep;
  if (AdvertisedBrokers brokers = BrokersOf(*decoded); !brokers.empty()) {
    auto learning = shared_.brokers.Learn(loop_, connection_, std::move(brokers));
    keep = co_await std::move(learning);
  }
  if (std::find(keep.begin(), keep.end(), false) == keep.end()) co_return ResponseVerdict::Forward();
  LeaveOut(keep, *decoded);
  co_return RewriteResponse(response, *decoded, output);
}

io::Task<ResponseVerdict> MetadataGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                                    proxy::FrameOutput& output) {
  switch (response.apiKey) {
    case kafka::ApiKey::kMetadata:
      return Learn<kafka::MetadataResponse>(response, output);
    case kafka::ApiKey::kFindCoordinator:
      return Learn<kafka::FindCoordinatorResponse>(response, output);
    case kafka::ApiKey::kCreateTopics:
      return Learn<kafka::CreateTopicsResponse>(response, output);
    case kafka::ApiKey::kDescribeTopicPartitions:
      return Learn<kafka::DescribeTopicPartitionsResponse>(response, output);
    case kafka::ApiKey::kShareAcknowledge:
      return Learn<kafka::ShareAcknowledgeResponse>(response, output);
    default:
      return Learn<kafka::DescribeClusterResponse>(response, output);
  }
}

}  // namespace kveil::guard
