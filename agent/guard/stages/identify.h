// Stage 2: whose record it is, and whether there is a key for it. Attributes of users belong here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "crypto/envelope.h"
#include "guard/stages/owner.h"
#include "guard/stages/validate.h"
#include "guard/worker/needs.h"
#include "guard/worker/problem.h"
#include "guard/worker/user_finder.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/record.h"
#include "keys/cache/key_cache.h"
#include "policy/policy.h"

namespace kveil::guard {

// This stage gets some records of a batch at once: the memory of one key arrives while the next is looked for.
inline constexpr size_t kMostIdentifiedAtOnce = 32;

// The expanded keys that `transform` works with are larger: they are called for when it is this many records away.
inline constexpr size_t kExpandedKeysAhead = 3;

// Calls for the expanded key of one of the records, unless it is that of the record before.
template <typename Transform, typename Record>
inline void PrefetchOne(const Transform& transform, absl::Span<const Record> records, size_t i) {
  const Record& record = records[i];
  if (record.owner.key == nullptr || (i > 0 && record.owner.key == records[i - 1].owner.key)) return;
  if (!record.problem.has_value()) transform.Prefetch(record.view, record.owner);
}
// For those of the first records, and then for that of records[i + kExpandedKeysAhead].
template <typename Transform, typename Record>
inline void PrefetchFirst(const Transform& transform, absl::Span<const Record> records) {
  for (size_t i = 0; i < std::min(kExpandedKeysAhead, records.size()); ++i) PrefetchOne(transform, records, i);
}
template <typename Transform, typename Record>
inline void PrefetchAhead(const Transform& transform, absl::Span<const Record> records, size_t i) {
  if (i + kExpandedKeysAhead < records.size()) PrefetchOne(transform, records, i + kExpandedKeysAhead);
}

// A record on its way to the broker, and what is found out about it.
struct ProducedRecord {
  kafka::RecordView view;
  std::optional<Problem> problem;  // then the stages behind do not see it
  Owner owner;
  // Of this stage alone:
  std::string_view user;
  uint32_t tag = 0;
  uint32_t guess = keys::kNowhere;
  bool isLastUsers = false;  // it has the user of the last record that has one
};

// The owner of a record to be sealed: the cluster, the topic, or the user that the rule finds in the record.
class IdentifyProduced {
 public:
  // All that is passed outlives it. `marks` are the batch's.
  IdentifyProduced(const policy::SealRule& rule, std::string_view cluster, std::string_view topicName,
                   const BatchMarks& marks, WorkerScratch& scratch, Needs& needs);
  IdentifyProduced(const IdentifyProduced&) = delete;
  IdentifyProduced& operator=(const IdentifyProduced&) = delete;

  // Sets the owners of up to kMostIdentifiedAtOnce records, or their problems. Those without a problem are valid.
  void Of(absl::Span<ProducedRecord> records);

 private:
  void FindUsers(absl::Span<ProducedRecord> records);
  void FindKeys(absl::Span<ProducedRecord> records);
  void FindOwner(const keys::ScopeName& name, uint32_t tag, uint32_t guess, Owner& owner);

  const policy::SealRule& rule_;
  const std::string underKek_;  // the keyspace that names the KEK; empty: there is none
  const std::string_view userKeyspace_;
  const keys::ScopeName shared_;  // of the one key, where the scope is not the user
  const uint64_t seed_;           // of users' tags
  const BatchMarks& marks_;
  WorkerScratch& scratch_;
  Needs& needs_;
  std::optional<Owner> sharedOwner_;
  absl::flat_hash_set<std::string> noted_;  // subjects that are in needs_
};

// Whether records of more than `limit` different users are to be sealed, out of `records`, which are `count`.
bool HasMoreUsersThan(size_t limit, const policy::SealRule& rule, Bytes records, int32_t count, UserFinder& finder);

// A record on its way to a reader, and what is found out about it.
struct FetchedRecord {
  kafka::RecordView view;
  Envelope envelope;
  std::optional<Problem> problem;  // nothing goes past it
  Owner owner;
};

// The owner of a fetched record: whoever has the key that its envelope names. The AEAD tag of the record vouches for
// it; the content of the record does not matter.
class IdentifyFetched {
 public:
  // All that is passed outlives it. `keysLimit`: different keys that a pass may need.
  IdentifyFetched(size_t keysLimit, WorkerScratch& scratch, Needs& needs)
      : keysLimit_(keysLimit), scratch_(scratch), needs_(needs) {}

  // Sets the owners of up to kMostIdentifiedAtOnce records, or their problems. The records are valid.
  void Of(absl::Span<FetchedRecord> records) {
    UnmaskKeyIds(records);
    FindKeys(records);
  }
  // The two halves of it. With the first, an envelope says whose key it names; the second looks for that key.
  void UnmaskKeyIds(absl::Span<FetchedRecord> records);
  void FindKeys(absl::Span<FetchedRecord> records);

 private:
  std::optional<Problem> FindKey(const keys::KeyRef& ref, uint32_t guess, Owner& owner);

  const size_t keysLimit_;
  WorkerScratch& scratch_;
  Needs& needs_;
  absl::flat_hash_set<keys::KeyRef> noted_;  // that are in needs_
};

}  // namespace kveil::guard
