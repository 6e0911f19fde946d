#include "users/consent_record.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "nlohmann/json.hpp"
#include "users/facts_change.h"

namespace kveil::users {
namespace {

using Json = nlohmann::json;

constexpr int kDeepest = 8;

absl::Status Malformed(std::string_view what) { return absl::InvalidArgumentError(ToAbsl(what)); }

// nlohmann takes the last of two members of one name, and any depth.
absl::StatusOr<Json> Parse(std::string_view text) {
  std::vector<std::set<std::string>> names;  // of each object that is open
  bool isTwice = false, isDeep = false;
  const auto look = [&](int depth, Json::parse_event_t event, Json& parsed) {
    isDeep |= depth > kDeepest;
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end && !names.empty()) names.pop_back();
    if (event == Json::parse_event_t::key && !names.empty()) {
      isTwice |= !names.back().insert(parsed.get<std::string>()).second;
    }
    return true;
  };
  Json json = Json::parse(text, look, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Malformed("it is not JSON");
  if (isDeep) return Malformed("it is nested too deeply");
  if (isTwice) return Malformed("it has a name twice");
  return json;
}

// nullopt: not granted.
absl::StatusOr<std::optional<Consent>> ConsentOf(const std::string& purpose, const Json& value) {
  if (!IsName(purpose)) return Malformed("the name of a purpose is malformed");
  if (value.is_boolean()) {
    if (!value.get<bool>()) return std::nullopt;
    return Consent{purpose, absl::InfiniteFuture()};
  }
  const bool hasEnd = value.is_object() && value.size() == 1 && value.contains("until") && value["until"].is_string();
  if (!hasEnd) return Malformed("a purpose is neither true nor false nor {\"until\": TIME}");
  ASSIGN_OR_RETURN(const absl::Time until, ParseUntil(value["until"].get_ref<const std::string&>()));
  return Consent{purpose, until};
}

}  // namespace

absl::StatusOr<std::vector<Consent>> ParseConsentRecord(std::string_view value) {
  if (value.size() > kLongestConsentRecord) {
    return Malformed(StrCat("it has more than ", kLongestConsentRecord, " bytes"));
  }
  ASSIGN_OR_RETURN(const Json json, Parse(value));
  if (!json.is_object() || !json.contains("purposes")) return Malformed("it has no \"purposes\"");
  for (const auto& member : json.items()) {
    if (member.key() != "purposes" && member.key() != "meta") {
      return Malformed("it has another member than \"purposes\" and \"meta\"");
    }
  }
  const Json& purposes = json["purposes"];
  std::vector<Consent> consents;
  if (purposes.is_array()) {
    for (const Json& purpose : purposes) {
      if (!purpose.is_string()) return Malformed("a purpose in the list is no text");
      if (!IsName(purpose.get_ref<const std::string&>())) return Malformed("the name of a purpose is malformed");
      consents.push_back({purpose.get<std::string>(), absl::InfiniteFuture()});
    }
  } else if (purposes.is_object()) {
    for (const auto& member : purposes.items()) {
      ASSIGN_OR_RETURN(std::optional<Consent> one, ConsentOf(member.key(), member.value()));
      if (one.has_value()) consents.push_back(*std::move(one));
    }
  } else {
    return Malformed("\"purposes\" is neither an object nor a list");
  }
  const auto byPurpose = [](const Consent& left, const Consent& right) { return left.purpose < right.purpose; };
  std::sort(consents.begin(), consents.end(), byPurpose);
  const auto isSame = [](const Consent& left, const Consent& right) { return left.purpose == right.purpose; };
  consents.erase(std::unique(consents.begin(), consents.end(), isSame), consents.end());
  if (consents.size() > kMostConsents) return Malformed(StrCat("it grants more than ", kMostConsents, " purposes"));
  return consents;
}

}  // namespace kveil::users
