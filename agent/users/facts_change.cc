#include "users/facts_change.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::users {
namespace {

const std::string& NameOf(const Consent& consent) { return consent.purpose; }
const std::string& NameOf(const std::pair<std::string, std::string>& attribute) { return attribute.first; }

absl::Time WholeMilliseconds(absl::Time time) { return absl::FromUnixMillis(absl::ToUnixMillis(time)); }

template <typename Entry>
absl::Status Put(std::vector<Entry>& entries, Entry entry, size_t most, std::string_view what) {
  const auto place = std::lower_bound(entries.begin(), entries.end(), NameOf(entry),
                                      [](const Entry& other, const std::string& name) { return NameOf(other) < name; });
  if (place != entries.end() && NameOf(*place) == NameOf(entry)) {
    *place = std::move(entry);
    return absl::OkStatus();
  }
  if (entries.size() >= most) {
    return absl::ResourceExhaustedError(StrCat("the user has ", most, " ", what, ", which is the most there may be"));
  }
  entries.insert(place, std::move(entry));
  return absl::OkStatus();
}

template <typename Entry>
void Drop(std::vector<Entry>& entries, const std::string& name) {
  std::erase_if(entries, [&](const Entry& entry) { return NameOf(entry) == name; });
}

}  // namespace

absl::StatusOr<absl::Time> ParseUntil(std::string_view text) {
  // abseil takes "infinite-past", blanks and times without seconds, too.
  const bool isPlain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == ':' || c == '.' || c == '+' || c == 'T' || c == 'Z';
  });
  absl::Time time;
  std::string error;
  const char* const format = text.find('T') == std::string_view::npos ? "%E4Y-%m-%d" : "%E4Y-%m-%dT%H:%M:%E*S%Ez";
  if (!isPlain || text.size() < 10 || !absl::ParseTime(format, std::string(text), absl::UTCTimeZone(), &time, &error)) {
    // Not what it is: where columns were swapped, it is the user's id.
    return absl::InvalidArgumentError("\"until\" is no time such as 2027-01-01T00:00:00Z or 2027-01-01");
  }
  return absl::FromUnixMillis(absl::ToUnixMillis(time));
}

absl::Status Check(const FactsChange& change) {
  const bool isConsent = change.kind == FactsChange::Kind::kGrant || change.kind == FactsChange::Kind::kWithdraw;
  const std::string_view what = isConsent ? "a purpose" : "an attribute's name";
  if (!IsName(change.name)) {
    return absl::InvalidArgumentError(StrCat(what, " is 1 to ", kLongestName, " of the characters A-Z a-z 0-9 . _ -"));
  }
  UserFacts facts;
  absl::Status applied = Apply(change, facts);
  return applied.ok() ? Check(facts) : applied;
}

absl::Status Apply(const FactsChange& change, UserFacts& facts) {
  switch (change.kind) {
    case FactsChange::Kind::kGrant:
      return Put(facts.consents, {change.name, change.until}, kMostConsents, "consents");
    case FactsChange::Kind::kWithdraw:
      Drop(facts.consents, change.name);
      break;
    case FactsChange::Kind::kSet:
      return Put(facts.attributes, {change.name, change.value}, kMostAttributes, "attributes");
    case FactsChange::Kind::kRemove:
      Drop(facts.attributes, change.name);
      break;
  }
  return absl::OkStatus();
}

void NoteWithdrawal(std::string_view purpose, absl::Time time, absl::Time until, UserFacts& facts) {
  std::vector<Withdrawal>& all = facts.withdrawn;
  const auto put = [&all](std::string_view name, absl::Time time, absl::Time until) {
    const auto place =
        std::lower_bound(all.begin(), all.end(), name,
                         [](const Withdrawal& other, std::string_view wanted) { return other.purpose < wanted; });
    if (place == all.end() || place->purpose != name) {
      all.insert(place, {std::string(name), time, until});
    } else {
      place->time = std::max(place->time, time);
      place->until = std::max(place->until, until);
    }
  };
  put(purpose, WholeMilliseconds(time), WholeMilliseconds(std::max(time, until)));
  while (all.size() > kMostWithdrawals) {
    // That of every purpose takes a place as well.
    const auto first = all.front().purpose == kEveryPurpose ? all.begin() + 1 : all.begin();
    const auto oldest = std::min_element(
        first, all.end(), [](const Withdrawal& left, const Withdrawal& right) { return left.time < right.time; });
    const Withdrawal gone = *oldest;
    all.erase(oldest);
    put(kEveryPurpose, gone.time, gone.until);
  }
}

void ForgetWithdrawal(std::string_view purpose, UserFacts& facts) {
  std::erase_if(facts.withdrawn, [purpose](const Withdrawal& one) { return one.purpose == purpose; });
}

std::vector<FactsChange> Difference(const std::vector<Consent>& before, const std::vector<Consent>& after) {
  std::vector<FactsChange> changes;
  auto old = before.begin();
  auto given = after.begin();
  while (old != before.end() || given != after.end()) {
    if (given == after.end() || (old != before.end() && old->purpose < given->purpose)) {
      changes.push_back({FactsChange::Kind::kWithdraw, old->purpose});
      ++old;
      continue;
    }
    const bool isThere = old != before.end() && old->purpose == given->purpose;
    if (!isThere || old->until != given->until) {
      changes.push_back({FactsChange::Kind::kGrant, given->purpose, given->until});
    }
    if (isThere) ++old;
    ++given;
  }
  return changes;
}

std::string HistoryOf(absl::Span<const FactsChange> changes, std::optional<uint32_t> uid, std::string_view agent) {
  using Json = nlohmann::ordered_json;
  Json granted = Json::array(), withdrawn = Json::array();
  for (const FactsChange& change : changes) {
    if (change.kind == FactsChange::Kind::kGrant) {
      Json& one = granted.emplace_back(Json{{"purpose", change.name}});
      if (change.until != absl::InfiniteFuture()) {
        one["until"] = absl::FormatTime(absl::RFC3339_full, change.until, absl::UTCTimeZone());
      }
    } else if (change.kind == FactsChange::Kind::kWithdraw) {
      withdrawn.push_back(change.name);
    }
  }
  if (granted.empty() && withdrawn.empty()) return {};
  Json json = uid.has_value() ? Json{{"uid", *uid}} : Json{{"topic", true}};
  json["agent"] = agent;
  if (!granted.empty()) json["granted"] = std::move(granted);
  if (!withdrawn.empty()) json["withdrawn"] = std::move(withdrawn);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace kveil::users
