// Why a workload may read a topic or one record of it, or may not: in sentences, for commands. It decides as the agent
// does, but slowly.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "identity/claims.h"
#include "identity/workload.h"
#include "policy/policy.h"

namespace kveil::policy {

// A record, as somebody describes it.
struct DescribedRecord {
  std::optional<std::string> user;  // in its one spelling; none: of nobody, or not known
  // That is whose key seals it. Otherwise a record without a value is a tombstone, whose user nothing vouches for.
  bool isSealedForUser = false;
  // The user was erased: whose it was is not known any more, and nobody can open it. Of a tombstone that is not
  // isSealedForUser, and where no user's key seals, it says nothing.
  bool isErased = false;
  std::vector<std::string> consents;                            // purposes for which the user consents
  std::vector<std::pair<std::string, std::string>> attributes;  // of the user, by name
  std::optional<std::chrono::milliseconds> age;                 // none: it has no time
  std::vector<std::pair<std::string, std::string>> headers;
  std::optional<std::string> key;
  std::optional<std::string> value;  // none: a tombstone
};

// The user that the seal finds in the record. nullopt: none, or one that the agent would refuse.
std::optional<std::string> UserIn(const DescribedRecord& record, const SealRule& seal);

struct Explanation {
  // kSome only of a topic: some records may be read.
  Readable readable = Readable::kNothing;
  // Of a record that no entry keeps from the reader, and that nobody can open, as its user was erased: then `readable`
  // is kNothing.
  bool isErased = false;
  std::optional<size_t> entry;  // of `read`, or `write`, as the file has it, from 0, that lets it be read
  std::string why;              // a sentence
};

// Whoever asks.
struct DescribedClient {
  identity::Workload workload;
  identity::Claims claims;
};

// Of a topic. `topic`: its entry; nullptr if there is none.
Explanation ExplainTopic(const TopicPolicy* topic, const DescribedClient& client, Access access = Access::kRead);
// Of one record of it.
Explanation ExplainRecord(const TopicPolicy* topic, const DescribedClient& client, const DescribedRecord& record,
                          Access access = Access::kRead);

}  // namespace kveil::policy
