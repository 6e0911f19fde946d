// What is counted: who read or wrote which topic, by which entry of the policies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"
#include "crypto/key_id.h"

namespace kveil::audit {

enum class Access : uint8_t { kRead, kWrite };

// What is counted together in a minute.
struct UseView {
  std::string_view share;           // of the workload (identity/workload.h)
  std::string_view workload;        // what it is told apart by within its share: its pod's uid, its unit or its cgroup
  std::string_view cluster, topic;  // no topic: of several, as there were too many to tell apart
  std::string_view file;            // of the policy
  uint32_t uid = 0;                 // of the process
  uint32_t entry = 0;  // of `read` or `write`, as the file has it, from 1, that lets it; 0: none, or several
  Access access = Access::kRead;

  friend bool operator==(const UseView&, const UseView&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const UseView& use) {
    return H::combine(std::move(state), ToAbsl(use.share), ToAbsl(use.workload), ToAbsl(use.cluster), ToAbsl(use.topic),
                      ToAbsl(use.file), use.uid, use.entry, use.access);
  }
};

struct Use {
  explicit Use(const UseView& use)
      : share(use.share),
        workload(use.workload),
        cluster(use.cluster),
        topic(use.topic),
        file(use.file),
        uid(use.uid),
        entry(use.entry),
        access(use.access) {}
  UseView view() const { return {share, workload, cluster, topic, file, uid, entry, access}; }

  std::string share, workload, cluster, topic, file;
  uint32_t uid = 0;
  uint32_t entry = 0;
  Access access = Access::kRead;
};

// Found by a view, without a copy.
struct UseHash {
  using is_transparent = void;
  size_t operator()(const Use& use) const { return absl::Hash<UseView>()(use.view()); }
  size_t operator()(const UseView& use) const { return absl::Hash<UseView>()(use); }
};
struct UseEqual {
  using is_transparent = void;
  static const UseView& Of(const UseView& use) { return use; }
  static UseView Of(const Use& use) { return use.view(); }
  bool operator()(const auto& a, const auto& b) const { return Of(a) == Of(b); }
};

// Of records, unless it says otherwise.
struct Counts {
  uint64_t records = 0;      // opened, or sealed
  uint64_t leftOut = 0;      // left out or masked: no entry of `read` lets the reader have them
  uint64_t erased = 0;       // left out or masked: the user was erased
  uint64_t plaintext = 0;    // without an envelope
  uint64_t refused = 0;      // not sealed, and not forwarded
  uint64_t denials = 0;      // answers: the workload may not read, or write, the topic at all
  uint64_t withoutUser = 0;  // of `records`, those whose user there was no room for, or no pseudonym

  void Add(const Counts& more) {
    records += more.records;
    leftOut += more.leftOut;
    erased += more.erased;
    plaintext += more.plaintext;
    refused += more.refused;
    denials += more.denials;
    withoutUser += more.withoutUser;
  }
  // A denied or refused name need not be a topic: a workload can make up as many as it likes.
  bool haveRecords() const { return (records | leftOut | erased | plaintext) != 0; }
  bool empty() const { return (records | leftOut | erased | plaintext | refused | denials) == 0; }
};

// What was counted of one use.
struct Counted {
  std::string name;            // what the log calls the workload; empty: several of one share
  std::string serviceAccount;  // of its pod, "namespace/name"; empty if there is none
  Counts counts;
  bool isByUser = false;  // the policy asks for users
  // Of uses that were not told apart: what is not of all of them is taken out.
  void KeepCommonNames(const std::string& otherName, const std::string& otherAccount) {
    if (name == otherName && serviceAccount == otherAccount) return;
    name.clear();
    serviceAccount.clear();
  }
  absl::flat_hash_map<crypto::KeyId, uint64_t> users;  // records by the user's key
};
using AllCounted = absl::flat_hash_map<Use, Counted, UseHash, UseEqual>;

}  // namespace kveil::audit
