#include "guard/learn/limit_lookup.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "kafka/messages/describe_configs.h"

namespace kveil::guard {
namespace {

constexpr int16_t kVersion = kafka::DescribeConfigsRequest::kVersionOfEveryBroker;
constexpr std::string_view kLimitName = "max.message.bytes";

std::optional<size_t> LimitIn(const kafka::DescribeConfigsResponse::Result& result) {
  if (result.errorCode != kafka::ErrorCode::kNone) return std::nullopt;
  for (const auto& config : result.configs) {
    uint64_t bytes = 0;
    if (config.name != kLimitName || !config.value.has_value()) continue;
    if (absl::SimpleAtoi(ToAbsl(*config.value), &bytes) && bytes > 0) return bytes;
  }
  return std::nullopt;
}

}  // namespace

io::Task<void> LimitLookup::Learn(std::vector<std::string> topics, proxy::Upstream& upstream) {
  if (topics.empty()) co_return;
  const TopicLimits::Clock::time_point now = TopicLimits::Clock::now();
  kafka::DescribeConfigsRequest ask;
  if (topics.size() > kMostAskedAtOnce) topics.resize(kMostAskedAtOnce);
  for (const std::string& name : topics) {
    kafka::DescribeConfigsRequest::Resource& resource = ask.resources.emplace_back();
    resource.resourceType = kafka::ConfigResourceType::kTopic;
    resource.resourceName = name;
    resource.configurationKeys.emplace().push_back(kLimitName);
    limits_.Renew(connection_, name, now);
  }
  std::function<void(kafka::FrameWriter&)> write = [&ask](kafka::FrameWriter& writer) {
    kafka::Encode(ask, kVersion, writer);
  };
  auto asking = upstream.Ask(kafka::ApiKey::kDescribeConfigs, kVersion, "kveil", std::move(write));
  const absl::StatusOr<Bytes> answer = co_await std::move(asking);
  if (!answer.ok()) co_return;
  const auto described = kafka::Decode<kafka::DescribeConfigsResponse>(*answer, kVersion);
  if (!described.ok()) co_return;
  // What was not asked for is not looked at, however much there is of it.
  if (described->results.size() > topics.size()) co_return;
  const absl::flat_hash_set<std::string_view> asked(topics.begin(), topics.end());
  for (const kafka::DescribeConfigsResponse::Result& result : described->results) {
    if (!asked.contains(result.resourceName)) continue;
    const std::optional<size_t> bytes = LimitIn(result);
    if (result.errorCode == kafka::ErrorCode::kUnknownTopicOrPartition) {
      limits_.Forget(connection_, result.resourceName);
    } else if (bytes.has_value()) {
      limits_.Learn(connection_, result.resourceName, *bytes, now);
    } else {
      limits_.Assume(connection_, result.resourceName, now);
    }
  }
}

}  // namespace kveil::guard
