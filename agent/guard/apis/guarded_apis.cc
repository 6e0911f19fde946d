#include "guard/apis/guarded_apis.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "base/text.h"
#include "guard/apis/api_versions_guard.h"
#include "guard/apis/fetch_guard.h"
#include "guard/apis/learning_guard.h"
#include "guard/apis/produce_guard.h"
#include "guard/apis/sasl_guard.h"
#include "guard/apis/share_acknowledge_guard.h"
#include "guard/apis/share_guard.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"

namespace kveil::guard {
namespace {

template <class Guard>
std::unique_ptr<proxy::Interceptor> Make(const GuardContext& context) {
  return std::make_unique<Guard>(context);
}

template <class Guard>
constexpr GuardedApi Row(std::initializer_list<Use> uses) {
  GuardedApi api;
  api.key = Guard::kApiKey;
  api.versions = Guard::kVersions;
  for (const Use use : uses) api.uses = static_cast<uint8_t>(api.uses | static_cast<uint8_t>(use));
  api.make = Make<Guard>;
  return api;
}

// A guard that only learns. What it learns depends on what the response has.
template <class Response>
constexpr GuardedApi Learning() {
  using Guard = LearningGuard<Response>;
  if constexpr (Guard::kLearnsBrokers && Guard::kLearnsTopicIds) return Row<Guard>({Use::kBrokers, Use::kTopicIds});
  return Row<Guard>({Guard::kLearnsBrokers ? Use::kBrokers : Use::kTopicIds});
}

constexpr auto kGuarded = std::to_array<GuardedApi>({
    Row<ProduceGuard>({Use::kRecords, Use::kBrokers}),
    Row<FetchGuard>({Use::kRecords, Use::kBrokers}),
    Learning<kafka::MetadataResponse>(),
    Learning<kafka::FindCoordinatorResponse>(),
    Row<SaslHandshakeGuard>({Use::kPrincipal}),
    Row<ApiVersionsGuard>({Use::kOffer}),
    Learning<kafka::CreateTopicsResponse>(),
    Row<SaslAuthenticateGuard>({Use::kPrincipal}),
    Learning<kafka::DescribeClusterResponse>(),
    Learning<kafka::DescribeTopicPartitionsResponse>(),
    Row<ShareGuard>({Use::kRecords, Use::kBrokers}),
    Row<ShareAcknowledgeGuard>({Use::kBrokers}),
});

constexpr std::array<std::pair<Use, std::string_view>, 5> kUseNames = {{
    {Use::kRecords, "records"},
    {Use::kBrokers, "brokers"},
    {Use::kTopicIds, "topic ids"},
    {Use::kPrincipal, "principal"},
    {Use::kOffer, "offer"},
}};

}  // namespace

absl::Span<const GuardedApi> GuardedApis() { return kGuarded; }

const GuardedApi* FindGuardedApi(kafka::ApiKey api) {
  const auto found =
      std::find_if(kGuarded.begin(), kGuarded.end(), [api](const GuardedApi& guarded) { return guarded.key == api; });
  return found == kGuarded.end() ? nullptr : &*found;
}

std::string UsesText(const GuardedApi& api) {
  std::string text;
  for (const auto& [use, name] : kUseNames) {
    if (api.Has(use)) text += StrCat(text.empty() ? "" : ", ", name);
  }
  return text;
}

int16_t NewestAllowed(kafka::ApiKey api) {
  const GuardedApi* const guarded = FindGuardedApi(api);
  return guarded != nullptr ? guarded->versions.max : kafka::LatestVersion(api);
}

}  // namespace kveil::guard
