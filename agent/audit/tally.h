// What a worker counts for the audit trail, until the recorder takes it, each minute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "audit/use.h"
#include "base/mutex.h"
#include "crypto/key_id.h"
#include "identity/workload.h"

namespace kveil::audit {

// One per worker. The worker adds, once per batch or answer; one other thread takes.
//
// Nobody can make it longer than its bounds. Beyond them, a share's uses are counted as one without a topic, and
// records are counted for no user. Denials and refusals have few places of their own: a workload can make up names to
// be denied, and they must not take the place of what it reads.
class Tally {
 public:
  static constexpr size_t kMostUses = 8192;
  static constexpr size_t kMostUsesOfAShare = 256;
  static constexpr size_t kMostDenials = 2048;  // uses without records
  static constexpr size_t kMostDenialsOfAShare = 16;
  static constexpr size_t kLongestTopic = 249;  // brokers have no longer names (Kafka: Topic.MAX_NAME_LENGTH)
  static constexpr size_t kMostShares = 2048;   // beyond them, all are counted as one
  static constexpr size_t kMostUsers = 16384;   // of those that shares have beyond kLeastUsersOfAShare
  static constexpr size_t kMostUsersOfAShare = 4096;
  static constexpr size_t kLeastUsersOfAShare = 64;  // that a share has room for, whatever others take

  // What is counted, besides the workload.
  struct What {
    std::string_view cluster, topic, file;
    uint32_t entry = 0;
    Access access = Access::kRead;
    bool isByUser = false;  // the policy asks for users
  };
  // `users`: the key of each record's user, where the policy asks for them.
  void Add(const identity::Workload& workload, const What& what, const Counts& counts,
           absl::Span<const crypto::KeyId> users = {});

  // What was added since the last call.
  AllCounted Take();

 private:
  struct Share {
    size_t uses = 0;
    size_t denials = 0;
    size_t users = 0;
  };
  Counted& Find(const identity::Workload& workload, UseView use, bool hasRecords) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoom(Share* share, const UseView& use, bool hasRecords) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddUsers(const std::string& share, absl::Span<const crypto::KeyId> users, Counted& counted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;  // a worker never waits for another
  AllCounted counted_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Share> shares_ ABSL_GUARDED_BY(mutex_);
  size_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t denials_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t users_ ABSL_GUARDED_BY(mutex_) = 0;  // beyond kLeastUsersOfAShare of each
};

}  // namespace kveil::audit
