// Stage 5: what is counted of the records that went on. Lineage belongs here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "guard/stages/authorize.h"
#include "guard/stages/counts.h"
#include "guard/stages/owner.h"
#include "kafka/record.h"
#include "kafka/record_batch.h"
#include "policy/policy.h"

namespace kveil::guard {

// For the audit trail: by which entry a record went on (an index of `read` or `write`), and whose it is. Without
// `entry`, all records of the batch go by the same.
inline void NoteForAudit(const policy::TopicPolicy& topic, const Owner& owner, std::optional<size_t> entry,
                         AuditCounts& counts) {
  if (owner.state != Owner::State::kPresent) return;
  uint32_t counted = AuditCounts::kNoEntry;
  if (entry.has_value()) counted = counts.Add(static_cast<uint32_t>(*entry));
  if (topic.auditsUsers && owner.key->scope == keys::Scope::kUser) counts.users.emplace_back(counted, owner.key->id);
}

class ObserveProduced {
 public:
  explicit ObserveProduced(ProducedCounts& counts) : counts_(counts) {}

  void Of(const Owner& owner) {
    if (owner.state == Owner::State::kNobody) return;
    ++counts_.sealed;
    if (owner.isErasedSubject) ++counts_.afterErasure;
  }

 private:
  ProducedCounts& counts_;
};

// Unsigned, as a broker could send a base offset so high that a record's own would not fit.
inline int64_t OffsetOf(const kafka::BatchHeader& header, const kafka::RecordView& record) {
  return static_cast<int64_t>(static_cast<uint64_t>(header.baseOffset) + static_cast<uint64_t>(record.offsetDelta));
}

// How the reader gets a record that it may not have.
enum class DeniedAs : uint8_t { kLeftOut, kMasked, kUnchanged };

class ObserveFetched {
 public:
  ObserveFetched(const kafka::BatchHeader& header, FetchedCounts& counts) : header_(header), counts_(counts) {}

  void Of(const kafka::RecordView& record, const Owner& owner, const Decision& decision) {
    Count(record, owner, decision.verdict);
    if (decision.verdict == Verdict::kHide) {
      hidesSome_ = true;
      return;
    }
    if (decision.verdict == Verdict::kMask) masksSome_ = true;
    NoteVisible(record);
  }

  // A record that the reader may not have, whoever's it is.
  void OfDenied(const kafka::RecordView& record, DeniedAs how) {
    ++counts_.denied;
    if (how == DeniedAs::kLeftOut) {
      hidesSome_ = true;
      return;
    }
    if (how == DeniedAs::kMasked) masksSome_ = true;
    NoteVisible(record);
  }

  // A record from this offset on is in the batch.
  bool ShowsFrom(int64_t offset) const { return lastVisibleOffset_ >= offset; }
  // The reader gets the batch as it came.
  bool ChangesNothing() const { return counts_.opened == 0 && !hidesSome_ && !masksSome_; }
  // Some are hidden, and all others lie before this offset, from which the reader asked.
  bool LeavesNothingFrom(int64_t offset) const {
    return hidesSome_ && (lastVisibleOffset_ < 0 || lastVisibleOffset_ < offset);
  }

 private:
  void NoteVisible(const kafka::RecordView& record) {
    lastVisibleOffset_ = std::max(lastVisibleOffset_, OffsetOf(header_, record));
  }
  void Count(const kafka::RecordView& record, const Owner& owner, Verdict verdict) {
    switch (owner.state) {
      case Owner::State::kNobody:
        if (!record.value.has_value()) return;  // a tombstone never carries an envelope
        ++counts_.plaintext;
        if (verdict != Verdict::kPass) counts_.plaintextDropped = true;
        return;
      case Owner::State::kErased:
        ++counts_.erased;
        return;
      case Owner::State::kPresent:
        if (verdict == Verdict::kPass) ++counts_.opened;
        return;
      case Owner::State::kPending:
        return;
    }
  }

  const kafka::BatchHeader& header_;
  FetchedCounts& counts_;
  bool hidesSome_ = false;
  bool masksSome_ = false;
  int64_t lastVisibleOffset_ = -1;
};

}  // namespace kveil::guard
