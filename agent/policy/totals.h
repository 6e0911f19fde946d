// What all policies together may hold, so that the agent's memory and the search for a topic's entry have bounds.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "policy/policy.h"

namespace kveil::policy {

// docs/policy.md has the same table. where.h has the bounds of one topic.
inline constexpr size_t kMostPolicyBytes = 64 << 20;  // of the files that are policies
inline constexpr size_t kMostEntriesOfAll = 100'000;  // of `topics`
// Entries with a `pattern`, which are tried one after the other for each topic of a request,
inline constexpr size_t kMostSelectorPatterns = 1'000;
// and the steps of their programs. RE2 may take as many for each byte of a topic's name; what that comes to,
// guard/worker/search_pace.h bounds. "[a-z0-9-]{1,249}" has 2,244.
inline constexpr size_t kMostSelectorSteps = 200'000;
inline constexpr size_t kMostRulesOfAll = 250'000;    // of `read` and `write`
inline constexpr size_t kMostTextsOfAll = 1'000'000;  // texts and numbers in all `equals` and `oneOf`
inline constexpr size_t kMostPatternsOfAll = 1'000;   // `matches`

// Adds up what was read so far. Each answers with kInvalidArgument "PLACE: what there is, and what there may be".
class Totals {
 public:
  absl::Status AddFile(std::string_view name, size_t bytes);
  // `place`: of the entry, as "FILE: JSON POINTER".
  absl::Status AddTopic(const TopicPolicy& topic, std::string_view place);
  // An entry's `pattern`.
  absl::Status AddSelector(const re2::RE2& pattern, std::string_view place);
  // That a topic's `read` or `write` names.
  absl::Status AddUsers(size_t users, std::string_view place);

 private:
  size_t bytes_ = 0;
  size_t topics_ = 0;
  size_t selectors_ = 0;
  size_t steps_ = 0;
  size_t rules_ = 0;
  size_t texts_ = 0;
  size_t patterns_ = 0;
  size_t users_ = 0;
};

// Texts and numbers that the conditions list, those of users apart.
size_t CountTexts(const Where& where);

}  // namespace kveil::policy
