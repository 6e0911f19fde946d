#include "guard/apis/guarded_apis.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"
#include "kafka/messages/api_versions.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"
#include "kafka/messages/sasl.h"
#include "kafka/messages/share_acknowledge.h"
#include "kafka/messages/share_fetch.h"

namespace kveil::guard {
namespace {

template <class Message>
constexpr GuardedApi Guarded(Handler handler, std::initializer_list<Use> uses) {
  GuardedApi api;
  api.key = Message::kApiKey;
  api.handler = handler;
  api.versions = Message::kVersions;
  for (const Use use : uses) api.uses = static_cast<uint8_t>(api.uses | static_cast<uint8_t>(use));
  return api;
}

constexpr auto kGuarded = std::to_array<GuardedApi>({
    Guarded<kafka::ProduceRequest>(Handler::kProduce, {Use::kRecords, Use::kBrokers}),
    Guarded<kafka::FetchRequest>(Handler::kFetch, {Use::kRecords, Use::kBrokers}),
    Guarded<kafka::MetadataResponse>(Handler::kLearning, {Use::kBrokers, Use::kTopicIds}),
    Guarded<kafka::FindCoordinatorResponse>(Handler::kLearning, {Use::kBrokers}),
    Guarded<kafka::SaslHandshakeRequest>(Handler::kSasl, {Use::kPrincipal}),
    Guarded<kafka::ApiVersionsResponse>(Handler::kApiVersions, {Use::kOffer}),
    Guarded<kafka::CreateTopicsResponse>(Handler::kLearning, {Use::kTopicIds}),
    Guarded<kafka::SaslAuthenticateRequest>(Handler::kSasl, {Use::kPrincipal}),
    Guarded<kafka::DescribeClusterResponse>(Handler::kLearning, {Use::kBrokers}),
    Guarded<kafka::DescribeTopicPartitionsResponse>(Handler::kLearning, {Use::kTopicIds}),
    Guarded<kafka::ShareFetchRequest>(Handler::kShareFetch, {Use::kRecords, Use::kBrokers}),
    Guarded<kafka::ShareAcknowledgeResponse>(Handler::kLearning, {Use::kBrokers}),
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

std::vector<kafka::ApiKey> ApisOf(Handler handler) {
  std::vector<kafka::ApiKey> keys;
  for (const GuardedApi& api : kGuarded) {
    if (api.handler == handler) keys.push_back(api.key);
  }
  return keys;
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
