#include "guard/apis/decoded.h"

#include <utility>

#include "base/text.h"
#include "guard/apis/guarded_apis.h"
#include "kafka/topic_id.h"

namespace kveil::guard {
namespace {

proxy::RequestVerdict CloseOn(kafka::ApiKey api, observe::RefuseReason reason, std::string text,
                              observe::Metrics& metrics) {
  const GuardedApi* const guarded = FindGuardedApi(api);
  if (guarded != nullptr && guarded->Has(Use::kRecords)) metrics.RecordsRefused(reason, 1);
  return proxy::RequestVerdict::Close(std::move(text));
}

}  // namespace

proxy::RequestVerdict CloseOnVersion(const kafka::RequestHeader& header, observe::Metrics& metrics) {
  return CloseOn(header.apiKey, observe::RefuseReason::kUnsupportedVersion,
                 StrCat(kafka::ApiName(header.apiKey), " version ", header.version, ", which the agent cannot read"),
                 metrics);
}

proxy::RequestVerdict CloseOnMalformed(kafka::ApiKey api, const absl::Status& status, observe::Metrics& metrics) {
  return CloseOn(api, observe::RefuseReason::kMalformed, std::string(status.message()), metrics);
}

absl::Status CheckTopicName(std::string_view use, std::string_view name) {
  if (name.size() <= kafka::kLongestTopicName) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(use, " a topic with a name of ", name.size(), " bytes"));
}

}  // namespace kveil::guard
