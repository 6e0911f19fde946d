// One pass over the records of a batch, or of a part of one, which seals each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "crypto/envelope.h"
#include "guard/learn/topic_limits.h"
#include "guard/refuse/refusal.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/batch_split.h"
#include "keys/service/key_service.h"
#include "policy/policy.h"

namespace kveil::guard {

struct SealTask {
  const policy::TopicPolicy* topic = nullptr;  // has a seal rule
  std::string_view topicName;
  std::string_view cluster;
  Bytes records;                              // the partition's records field
  bool zstdAllowed = true;                    // Produce version 7 and newer
  size_t batchLimit = 64 << 20;               // bytes of a batch after decompression
  size_t usersLimit = 100'000;                // different users in a batch
  size_t topicLimit = TopicLimits::kDefault;  // bytes of a batch that the broker takes
  bool limitIsCertain = true;                 // otherwise it takes whatever is no larger than it came, for all we know
  size_t partSize = 0;                        // where an earlier try settled how the batch is cut
  int32_t firstRecord = 0;                    // those before it are left out: the broker has them
};

// One of the batches that a batch was sealed into.
struct SealedPart {
  size_t size = 0;  // bytes
  int32_t records = 0;
};

struct SealOutcome {
  enum class Kind { kSealed, kMissingKeys, kRefused };
  Kind kind = Kind::kSealed;
  keys::Misses misses;
  Refusal refusal;
  std::vector<SealedPart> parts;  // in the order of the records; one, unless sealing may make the batch too large
  size_t partSize = 0;            // what the parts were filled to
  uint64_t sealed = 0;            // records
  uint64_t keysUsed = 0;          // distinct ones of each part, all found in the cache
  uint64_t afterErasure = 0;      // of them under a key that nobody keeps
};

// `task` and `part` outlive it.
class SealPass {
 public:
  SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, bool compressValues);
  SealPass(const SealPass&) = delete;
  SealPass& operator=(const SealPass&) = delete;
  // Wipes the batch's keys.
  ~SealPass();

  // Writes all records, or collects what is wrong with them or missing for them.
  void Run(ByteBuffer& out);

  bool refused() const { return refusal_.has_value(); }
  bool missing() const { return !misses_.empty(); }
  SealOutcome TakeOutcome();

 private:
  // A key of this batch with its cipher.
  struct Slot {
    crypto::BatchCipher* cipher;
    crypto::KeyId idInHeader;
    bool erasedSubject;
  };

  void SealRecord(const kafka::RecordView& record, int32_t index);
  const Slot* SlotFor(const kafka::RecordView& record, int32_t index);
  const Slot* SlotFor(const keys::ScopeName& name);
  size_t AddSlot(const keys::ScopeKey& key, keys::Scope scope);
  void RefuseRecord(int32_t index, observe::RefuseReason reason, std::string_view message);
  Bytes ValueToSeal(const kafka::RecordView& record, uint8_t& flags);
  static bool CarriesEnvelope(const kafka::RecordView& record, bool& malformed);

  const SealTask& task_;
  const policy::SealRule& rule_;
  WorkerScratch& scratch_;
  const kafka::BatchPart& part_;
  const bool compressValues_;
  const crypto::Salt salt_;
  absl::InlinedVector<Slot, 8> slots_;
  absl::flat_hash_map<const keys::ScopeKey*, size_t> slotOfKey_;
  const keys::ScopeKey* lastKey_ = nullptr;
  size_t lastSlot_ = 0;
  keys::Misses misses_;
  absl::flat_hash_map<std::string, bool> missedUsers_;
  std::optional<Refusal> refusal_;
  uint64_t sealed_ = 0;
  uint64_t afterErasure_ = 0;
};

}  // namespace kveil::guard
