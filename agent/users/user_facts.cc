#include "users/user_facts.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "formats/utf8.h"
#include "nlohmann/json.hpp"

namespace kveil::users {
namespace {

using Json = nlohmann::ordered_json;

const std::string& NameOf(const Consent& consent) { return consent.purpose; }
const std::string& NameOf(const Withdrawal& withdrawal) { return withdrawal.purpose; }
const std::string& NameOf(const std::pair<std::string, std::string>& attribute) { return attribute.first; }

// nullptr when there is none.
template <typename Entry>
const Entry* Find(const std::vector<Entry>& entries, std::string_view name) {
  const auto found =
      std::lower_bound(entries.begin(), entries.end(), name,
                       [](const Entry& entry, std::string_view wanted) { return NameOf(entry) < wanted; });
  return found != entries.end() && NameOf(*found) == name ? &*found : nullptr;
}

template <typename Entry>
absl::Status CheckNames(const std::vector<Entry>& entries, size_t most, std::string_view what) {
  if (entries.size() > most) return absl::InvalidArgumentError(StrCat("more than ", most, " ", what, "s"));
  const std::string* last = nullptr;
  for (const Entry& entry : entries) {
    const std::string& name = NameOf(entry);
    const bool isOfEach = std::is_same_v<Entry, Withdrawal> && name == kEveryPurpose;
    if (!IsName(name) && !isOfEach)
      return absl::InvalidArgumentError(StrCat("the name of one ", what, " is malformed"));
    if (last != nullptr && *last >= name) return absl::InvalidArgumentError(StrCat("the ", what, "s are not in order"));
    last = &name;
  }
  return absl::OkStatus();
}

bool IsWholeMilliseconds(absl::Time time) { return absl::FromUnixMillis(absl::ToUnixMillis(time)) == time; }

absl::Status CheckSource(const FactsSource& source) {
  const bool isText =
      !source.keyspace.empty() && source.keyspace.size() <= kLongestSource && formats::IsUtf8(source.keyspace);
  if (isText && source.generation >= 1 && source.partition >= kSeveralPartitions) return absl::OkStatus();
  return absl::InvalidArgumentError("the topic that they come from is malformed");
}

const UserFacts kDamagedFacts;

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(StrCat("what is known of a user is damaged: ", what));
}

absl::StatusOr<FactsSource> DecodeSource(const Json& json) {
  const auto has = [&json](const char* name, auto isRight) { return json.contains(name) && (json[name].*isRight)(); };
  if (!json.is_object() || !has("keyspace", &Json::is_string) || !has("generation", &Json::is_number_integer) ||
      !has("partition", &Json::is_number_integer)) {
    return Damaged("the topic that it comes from is malformed");
  }
  return FactsSource{json["keyspace"].get<std::string>(), json["generation"].get<int64_t>(),
                     json["partition"].get<int32_t>()};
}

absl::StatusOr<Withdrawal> DecodeWithdrawal(const std::string& purpose, const Json& json) {
  const bool isPair = json.is_array() && json.size() == 2;
  const Json& time = isPair ? json[0] : json;
  const Json& until = isPair ? json[1] : json;
  if (!time.is_number_integer() || !until.is_number_integer()) return Damaged("a withdrawal has no time");
  return Withdrawal{purpose, absl::FromUnixMillis(time.get<int64_t>()), absl::FromUnixMillis(until.get<int64_t>())};
}

Json JsonOf(const Withdrawal& one) {
  const int64_t time = absl::ToUnixMillis(one.time);
  return one.until == one.time ? Json(time) : Json::array({time, absl::ToUnixMillis(one.until)});
}

}  // namespace

bool UserFacts::Consents(std::string_view purpose, absl::Time now) const {
  const Consent* const consent = Find(consents, purpose);
  if (consent == nullptr || now >= consent->until) return false;
  return !source.has_value() || (clock != nullptr && clock->IsCurrent(source->generation, now));
}

std::optional<Withdrawal> UserFacts::WithdrawalOf(std::string_view purpose) const {
  std::optional<Withdrawal> last;
  for (const std::string_view name : {purpose, kEveryPurpose}) {
    const Withdrawal* const one = Find(withdrawn, name);
    if (one == nullptr) continue;
    if (!last.has_value()) last = *one;
    last->time = std::max(last->time, one->time);
    last->until = std::max(last->until, one->until);
  }
  return last;
}

const std::string* UserFacts::Attribute(std::string_view name) const {
  const auto* const attribute = Find(attributes, name);
  return attribute == nullptr ? nullptr : &attribute->second;
}

// Without an owner, so that giving it out counts nothing.
SharedFacts DamagedFacts() { return {SharedFacts(), &kDamagedFacts}; }

bool IsDamaged(const UserFacts* facts) { return facts == &kDamagedFacts; }

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

absl::Status Check(const UserFacts& facts) {
  absl::Status status = CheckNames(facts.consents, kMostConsents, "consent");
  if (status.ok()) status = CheckNames(facts.attributes, kMostAttributes, "attribute");
  if (status.ok()) status = CheckNames(facts.withdrawn, kMostWithdrawals, "withdrawal");
  if (status.ok() && facts.source.has_value()) status = CheckSource(*facts.source);
  if (!status.ok()) return status;
  for (const Consent& consent : facts.consents) {
    if (consent.until != absl::InfiniteFuture() && !IsWholeMilliseconds(consent.until)) {
      return absl::InvalidArgumentError("a consent ends between two milliseconds");
    }
  }
  for (const Withdrawal& withdrawal : facts.withdrawn) {
    if (!IsWholeMilliseconds(withdrawal.time) || !IsWholeMilliseconds(withdrawal.until)) {
      return absl::InvalidArgumentError("a withdrawal is between two milliseconds");
    }
    if (withdrawal.until < withdrawal.time) return absl::InvalidArgumentError("a withdrawal ends before its time");
  }
  if (facts.ahead != absl::InfinitePast() && !IsWholeMilliseconds(facts.ahead)) {
    return absl::InvalidArgumentError("the time of a record is between two milliseconds");
  }
  for (const auto& [name, value] : facts.attributes) {
    const bool isControlFree = std::none_of(value.begin(), value.end(),
                                            [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); });
    if (value.empty() || value.size() > kLongestAttributeValue || !isControlFree || !formats::IsUtf8(value)) {
      return absl::InvalidArgumentError(StrCat("an attribute's value is not text of 1 to ", kLongestAttributeValue,
                                               " bytes without control characters"));
    }
  }
  return absl::OkStatus();
}

std::string Encode(const UserFacts& facts) {
  Json consents = Json::object();
  for (const Consent& consent : facts.consents) {
    consents[consent.purpose] =
        consent.until == absl::InfiniteFuture() ? Json() : Json(absl::ToUnixMillis(consent.until));
  }
  Json attributes = Json::object();
  for (const auto& [name, value] : facts.attributes) attributes[name] = value;
  Json json = {{"consents", std::move(consents)}, {"attributes", std::move(attributes)}};
  if (facts.source.has_value()) {
    json["source"] = {{"keyspace", facts.source->keyspace},
                      {"generation", facts.source->generation},
                      {"partition", facts.source->partition}};
  }
  if (facts.ahead != absl::InfinitePast()) json["ahead"] = absl::ToUnixMillis(facts.ahead);
  for (const Withdrawal& one : facts.withdrawn) json["withdrawn"][one.purpose] = JsonOf(one);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<UserFacts> Decode(std::string_view text) {
  if (text.size() > kLongestEncoded) return Damaged("it is too long");
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("consents") || !json.contains("attributes")) {
    return Damaged("it is not JSON of the kind that kveil writes");
  }
  UserFacts facts;
  for (const auto& [purpose, until] : json["consents"].items()) {
    if (!until.is_null() && !until.is_number_integer()) return Damaged("a consent has no time");
    facts.consents.push_back(
        {purpose, until.is_null() ? absl::InfiniteFuture() : absl::FromUnixMillis(until.get<int64_t>())});
  }
  for (const auto& [name, value] : json["attributes"].items()) {
    if (!value.is_string()) return Damaged("an attribute is not text");
    facts.attributes.emplace_back(name, value.get<std::string>());
  }
  if (json.contains("source")) {
    absl::StatusOr<FactsSource> source = DecodeSource(json["source"]);
    if (!source.ok()) return source.status();
    facts.source = *std::move(source);
  }
  if (json.contains("ahead")) {
    if (!json["ahead"].is_number_integer()) return Damaged("the time of a record is none");
    facts.ahead = absl::FromUnixMillis(json["ahead"].get<int64_t>());
  }
  if (json.contains("withdrawn")) {
    for (const auto& [purpose, times] : json["withdrawn"].items()) {
      absl::StatusOr<Withdrawal> withdrawal = DecodeWithdrawal(purpose, times);
      if (!withdrawal.ok()) return withdrawal.status();
      facts.withdrawn.push_back(*std::move(withdrawal));
    }
  }
  if (const absl::Status status = Check(facts); !status.ok()) return Damaged(ToStd(status.message()));
  // Whatever else differs, such as a name that is there twice, of which the parser has taken one.
  if (Encode(facts) != text) return Damaged("it is not as kveil writes it");
  return facts;
}

}  // namespace kveil::users
