#include "users/facts_change.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/text.h"

namespace kveil::users {
namespace {

const std::string& NameOf(const Consent& consent) { return consent.purpose; }
const std::string& NameOf(const std::pair<std::string, std::string>& attribute) { return attribute.first; }

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

}  // namespace kveil::users
