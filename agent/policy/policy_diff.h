// What changes when one set of policies takes the place of another: who may read or write more, and who less.
#pragma once

#include <string>
#include <vector>

#include "policy/policy.h"

namespace kveil::policy {

// Of one topic's entry and one kind of workload. A condition counts as it is written: "newerThan 2h" in place of
// "newerThan 1h" is one that is lost and one that is gained.
struct AccessChange {
  std::string topic;     // "name clickstream"
  std::string workload;  // "unit a.service"; every workload that no entry names is "every other workload"
  Access access = Access::kRead;
  std::vector<std::string> gains;  // which records, in words: "every record", "user 38"
  std::vector<std::string> loses;
  std::vector<std::string> keeps;  // where it gains or loses every record: what it has in any case
};

// Of one topic's entry, whoever reads it, or of a purpose.
struct TopicChange {
  std::string topic;
  std::string what;  // "is not sealed any more"
};

struct PolicyDiff {
  std::vector<AccessChange> accesses;
  std::vector<TopicChange> topics;
  bool empty() const { return accesses.empty() && topics.empty(); }
};

// Compares entry by entry: each `name`, `prefix` and `pattern` that either has. Where one has no such entry, what
// counts there is its entry for the name, its longest prefix of the prefix, or its entry for unselected topics.
PolicyDiff Compare(const Policy& before, const Policy& after);

// A sentence.
std::string TextOf(const AccessChange& change);
std::string TextOf(const TopicChange& change);

}  // namespace kveil::policy
