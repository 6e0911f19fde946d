// Stage 4: what becomes of a record's bytes. Sealed fields, and masks that keep a part of a value, belong here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "crypto/envelope.h"
#include "guard/stages/authorize.h"
#include "guard/stages/owner.h"
#include "guard/stages/validate.h"
#include "guard/worker/problem.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/record.h"
#include "policy/policy.h"

namespace kveil::guard {

// What a masked record has in place of its envelope. The header's value says why: "erased", "plaintext" or "denied".
inline constexpr std::string_view kMaskedHeaderName = "kveil-hidden";

// Writes records to scratch.writer: sealed for their owner, or as they are where there is nothing to seal.
class TransformProduced {
 public:
  // All that is passed outlives it. `marks` are the batch's.
  TransformProduced(const policy::SealRule& rule, std::string_view topicName, const BatchMarks& marks,
                    policy::CompressValues compress, WorkerScratch& scratch);

  // `index`: of the record in the batch.
  void Of(const kafka::RecordView& record, const Owner& owner, int32_t index);
  // `Of` comes soon for this record, which has an owner with a key.
  void Prefetch(const kafka::RecordView& record, const Owner& owner) const {
    scratch_.keyCache.PrefetchExpanded(*owner.key, record.value->size());
  }

 private:
  bool Compresses(Bytes value) const;
  Bytes CompressedIfShorter(const kafka::RecordView& record, uint8_t& flags);

  // Of the record header: the name and its length, then the length of the value.
  static constexpr size_t kBeforeValue = 1 + crypto::kEnvelopeHeaderName.size() + 1;

  const uint8_t flags_;
  std::array<uint8_t, kBeforeValue + crypto::kMaxEnvelopeHeaderByIdSize> header_;
  crypto::TopicAad aad_;
  const BatchMarks& marks_;
  const policy::CompressValues compress_;
  // Of the first small values, which tell whether compressing the others pays.
  int tried_ = 0;
  size_t triedSize_ = 0;
  size_t triedCompressedSize_ = 0;
  WorkerScratch& scratch_;
};

// Writes records to scratch.writer as the reader may see them: opened, without their value, as they are, or not at all.
class TransformFetched {
 public:
  // All that is passed outlives it. `batchLimit`: bytes that the batch may have when its values are decompressed.
  // `emptyMasks`: masks have no value, so that they take no room from the others.
  TransformFetched(const policy::TopicPolicy& topic, std::string_view topicName, size_t batchLimit, bool emptyMasks,
                   WorkerScratch& scratch)
      : topic_(topic), aad_(topicName), batchLimit_(batchLimit), emptyMasks_(emptyMasks), scratch_(scratch) {
    if (!topic.origin.empty()) originAad_.emplace(topic.origin);
  }

  // The problem's message is valid until the next call.
  std::optional<Problem> Of(const kafka::RecordView& record, const Envelope& envelope, const Owner& owner,
                            const Decision& decision) {
    switch (decision.verdict) {
      case Verdict::kPass:
        if (owner.state == Owner::State::kPresent) return Open(record, envelope, *owner.key);
        scratch_.writer.CopyRecord(record);
        break;
      case Verdict::kMask:
        Mask(record, envelope, decision.why);
        break;
      case Verdict::kHide:
      case Verdict::kStop:
        break;
    }
    return std::nullopt;
  }
  // Writes a record of the kind that the reader may not have. Returns whether that is the record as it came.
  bool OfDenied(const kafka::RecordView& record, const Envelope& envelope);
  // `Of` comes soon for this record, which has an owner with a key.
  void Prefetch(const kafka::RecordView& record, const Owner& owner) const {
    scratch_.keyCache.PrefetchExpanded(*owner.key, record.value->size());
  }
  // The value that `Of` has opened last, in scratch.writer: valid until the next record is written. kTailPadding
  // readable bytes follow it.
  Bytes opened() const { return opened_; }
  // Bytes of the batch so far, but for what a mask needs in place of an envelope, which is longer.
  size_t size() const { return scratch_.writer.size() - kMaskHeaderSize * masksOfSealed_; }
  // Masks have made the batch larger than that.
  bool outgrowsByMasks(size_t most) const { return hasMasks_ && size() > most; }
  // The batch may have room without the values of its masks.
  bool hasMaskValues() const { return hasMaskValues_; }

 private:
  struct MaskForm {
    bool isNull = false;
    std::string_view value;
  };
  MaskForm FormOf(observe::DropReason why) const;
  void Mask(const kafka::RecordView& record, const Envelope& envelope, observe::DropReason why);
  std::optional<Problem> Open(const kafka::RecordView& record, const Envelope& envelope, keys::CachedKey& key);
  // What is opened in scratch.compressed.
  std::optional<Problem> Decompress(const kafka::RecordView& record, const Envelope& envelope);

  const policy::TopicPolicy& topic_;
  crypto::TopicAad aad_;
  std::optional<crypto::TopicAad> originAad_;
  // Bytes of the record header that says why: two lengths, the name, and the longest of the reasons.
  static constexpr size_t kMaskHeaderSize = 2 + kMaskedHeaderName.size() + 9;

  const size_t batchLimit_;
  const bool emptyMasks_;
  WorkerScratch& scratch_;
  bool hasMasks_ = false;
  bool hasMaskValues_ = false;
  size_t masksOfSealed_ = 0;  // masked records that were sealed
  Bytes opened_;
  std::string message_;  // of the last problem
};

}  // namespace kveil::guard
