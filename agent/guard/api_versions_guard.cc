#include "guard/api_versions_guard.h"

#include <algorithm>

#include "kafka/messages/api_versions.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"
#include "kafka/messages/sasl.h"
#include "kafka/messages/share_fetch.h"

#include "guard/message_output.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;
using kafka::ApiVersionsResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// The newest version of a guarded API that the agent reads; -1 for an API that it does not guard.
int16_t NewestReadable(ApiKey api) {
  switch (api) {
    case ApiKey::kProduce:
      return kafka::ProduceRequest::kVersions.max;
    case ApiKey::kFetch:
      return kafka::FetchRequest::kVersions.max;
    case ApiKey::kShareFetch:
      return kafka::ShareFetchRequest::kVersions.max;
    case ApiKey::kMetadata:
      return kafka::MetadataResponse::kVersions.max;
    case ApiKey::kFindCoordinator:
      return kafka::FindCoordinatorResponse::kVersions.max;
    case ApiKey::kDescribeCluster:
      return kafka::DescribeClusterResponse::kVersions.max;
    case ApiKey::kSaslHandshake:
      return kafka::SaslHandshakeRequest::kVersions.max;
    case ApiKey::kSaslAuthenticate:
      return kafka::SaslAuthenticateRequest::kVersions.max;
    case ApiKey::kCreateTopics:
      return kafka::CreateTopicsResponse::kVersions.max;
    case ApiKey::kDescribeTopicPartitions:
      return kafka::DescribeTopicPartitionsResponse::kVersions.max;
    case ApiKey::kApiVersions:
      return ApiVersionsResponse::kVersions.max;
    default:
      return -1;
  }
}

}  // namespace

io::Task<RequestVerdict> ApiVersionsGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                     proxy::FrameOutput& output) {
  if (ApiVersionsResponse::kVersions.Contains(request.header.version)) {
    // A broken request is the broker's to answer.
    const auto decoded = kafka::Decode<kafka::ApiVersionsRequest>(request.body, request.header.version);
    if (decoded.ok()) client_->LearnName(decoded->clientSoftwareName);
    co_return RequestVerdict::Forward().WantResponse();
  }
  // As a broker answers a version that it does not know: body version 0, with the range of this one API (KIP-511).
  ApiVersionsResponse response;
  response.errorCode = kafka::ErrorCode::kUnsupportedVersion;
  ApiVersionsResponse::ApiVersion& own = response.apiKeys.emplace_back();
  own.apiKey = ApiKey::kApiVersions;
  own.minVersion = ApiVersionsResponse::kVersions.min;
  own.maxVersion = ApiVersionsResponse::kVersions.max;
  co_return AnswerRequest(request, response, 0, output);
}

io::Task<ResponseVerdict> ApiVersionsGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                                       proxy::FrameOutput& output) {
  absl::StatusOr<ApiVersionsResponse> decoded = kafka::Decode<ApiVersionsResponse>(response.body, response.version);
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  for (ApiVersionsResponse::ApiVersion& offered : decoded->apiKeys) {
    // Only the maximum is lowered: librdkafka switches compression off when it sees a raised minimum of Produce.
    const int16_t newest = NewestReadable(offered.apiKey);
    if (newest >= 0) offered.maxVersion = std::min(offered.maxVersion, newest);
  }
  co_return RewriteResponse(response, *decoded, output);
}

}  // namespace kveil::guard
