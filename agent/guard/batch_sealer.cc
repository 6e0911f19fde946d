#include "guard/batch_sealer.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "kafka/batch_split.h"
#include "kafka/record_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using observe::RefuseReason;

// What an envelope adds at least: the header's name and lengths, version, flags, key id, salt, index, and the tag.
constexpr size_t kLeastGrowth = 1 + crypto::kEnvelopeHeaderName.size() + 1 + (1 + 1 + 16 + 12 + 1) + crypto::kTagSize;
// And at most: with longer varints and an index of three bytes.
constexpr size_t kMostGrowth = kLeastGrowth + 8;
// A batch is sent in no more parts than this: one of many more is one that decompresses to much.
constexpr size_t kMostParts = 16;
// A batch with more users than this makes do with one more cipher, whose key is set anew for each record: a cipher
// holds about two kilobytes.
constexpr size_t kMaxCiphers = 4096;
// A response lists no more bad records than this; the batch fails as a whole anyway.
constexpr size_t kMaxListedRecords = 100;

Refusal Refuse(RefuseReason reason, std::string message, uint64_t recordCount = 1) {
  Refusal refusal;
  refusal.code = ErrorCode::kInvalidRecord;
  refusal.reason = reason;
  refusal.message = std::move(message);
  refusal.recordCount = recordCount;
  return refusal;
}

// One pass over the records of one batch, or of a part of it.
class SealPass {
 public:
  SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, bool compressValues)
      : task_(task),
        boundTopic_(task.topic->origin.empty() ? task.topicName : std::string_view(task.topic->origin)),
        rule_(*task.topic->seal),
        scratch_(scratch),
        part_(part),
        compressValues_(compressValues),
        salt_(crypto::RandomSalt()) {}

  // Writes all records, or collects what is wrong with them or missing for them.
  void Run(ByteBuffer& out);

  bool refused() const { return refusal_.has_value(); }
  bool missing() const { return !misses_.empty(); }
  // Of all sealed values with their tags: what no compression makes smaller.
  size_t sealedBytes() const { return sealedBytes_; }
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
  void RefuseRecord(int32_t index, RefuseReason reason, std::string_view message);
  Bytes ValueToSeal(const kafka::RecordView& record, uint8_t& flags);
  static bool CarriesEnvelope(const kafka::RecordView& record, bool& malformed);

  const SealTask& task_;
  const std::string_view boundTopic_;
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
  size_t sealedBytes_ = 0;
  uint64_t afterErasure_ = 0;
};

void SealPass::Run(ByteBuffer& out) {
  scratch_.writer.Begin(part_.header, out);
  kafka::RecordReader reader(part_.records, part_.header.count);
  kafka::RecordView record;
  int32_t index = 0;
  while (reader.Next(record)) {
    SealRecord(record, index);
    ++index;
  }
  if (!reader.status().ok()) {
    refusal_ = Refuse(RefuseReason::kMalformed, std::string(reader.status().message()), part_.header.count);
  }
}

bool SealPass::CarriesEnvelope(const kafka::RecordView& record, bool& malformed) {
  if (record.headerCount == 0) return false;
  kafka::HeaderReader reader(record);
  kafka::HeaderView header;
  bool found = false;
  while (reader.Next(header)) found = found || header.key == crypto::kEnvelopeHeaderName;
  malformed = !reader.status().ok();
  return found;
}

void SealPass::SealRecord(const kafka::RecordView& record, int32_t index) {
  bool malformed = false;
  if (CarriesEnvelope(record, malformed)) {
    RefuseRecord(index, RefuseReason::kAlreadySealed, "the record already carries a kveil header");
    return;
  }
  if (malformed) {
    RefuseRecord(index, RefuseReason::kMalformed, "the record's headers do not parse");
    return;
  }
  if (!record.value.has_value()) {
    if (!refused() && !missing()) scratch_.writer.CopyRecord(record);
    return;
  }
  const Slot* slot = SlotFor(record, index);
  if (slot == nullptr || refused() || missing()) return;

  crypto::EnvelopeHeader envelope;
  const Bytes plaintext = ValueToSeal(record, envelope.flags);
  if (rule_.scope == policy::SealScope::kUser) envelope.flags |= crypto::kFlagMaskedKeyId;
  envelope.keyId = slot->idInHeader;
  envelope.salt = salt_;
  envelope.recordIndex = static_cast<uint64_t>(index);
  uint8_t headerBytes[crypto::kMaxEnvelopeHeaderByIdSize];
  const Bytes headerValue(headerBytes, crypto::WriteEnvelopeHeader(envelope, headerBytes));
  uint8_t* const sealed = scratch_.writer.AddRecord(
      record, plaintext.size() + crypto::kTagSize, kafka::HeaderEdit::Append(crypto::kEnvelopeHeaderName, headerValue));
  crypto::BuildAad(headerValue, boundTopic_, record.key, scratch_.aad);
  slot->cipher->Seal(envelope.recordIndex, scratch_.aad, plaintext, sealed);
  ++sealed_;
  sealedBytes_ += plaintext.size() + crypto::kTagSize;
  if (slot->erasedSubject) ++afterErasure_;
}

// The value itself, or its compressed form where that is shorter.
Bytes SealPass::ValueToSeal(const kafka::RecordView& record, uint8_t& flags) {
  if (!compressValues_) return *record.value;
  const absl::Status compressed = kafka::Compress(kafka::Codec::kZstd, *record.value, scratch_.value);
  if (!compressed.ok() || scratch_.value.size() >= record.value->size()) return *record.value;
  flags |= crypto::kFlagCompressedValue;
  return scratch_.value;
}

const SealPass::Slot* SealPass::SlotFor(const kafka::RecordView& record, int32_t index) {
  switch (rule_.scope) {
    case policy::SealScope::kCluster:
      return slots_.empty() ? SlotFor(keys::ScopeName{keys::Scope::kCluster, "", task_.cluster}) : &slots_.front();
    case policy::SealScope::kTopic:
      return slots_.empty() ? SlotFor(keys::ScopeName{keys::Scope::kTopic, task_.cluster, task_.topicName})
                            : &slots_.front();
    case policy::SealScope::kUser:
      break;
  }
  std::string_view user;
  switch (scratch_.userFinder.Find(rule_.user, record, user)) {
    case UserFinder::Result::kFound:
      return SlotFor(keys::ScopeName{keys::Scope::kUser, rule_.keyspace, user});
    case UserFinder::Result::kNoUser:
      RefuseRecord(index, RefuseReason::kNoUser, "the record names no user where the policy looks for one");
      return nullptr;
    case UserFinder::Result::kNotJson:
      break;
  }
  RefuseRecord(index, RefuseReason::kNotJson, "the policy looks for the user in JSON, and this is not JSON");
  return nullptr;
}

const SealPass::Slot* SealPass::SlotFor(const keys::ScopeName& name) {
  const keys::ScopeKey* key = scratch_.keyCache.FindForSealing(name);
  if (key == nullptr) {
    if (missedUsers_.try_emplace(std::string(name.subject), true).second) misses_.scopes.emplace_back(name);
    return nullptr;
  }
  if (key == lastKey_) return &slots_[lastSlot_];
  const auto found = slotOfKey_.find(key);
  lastKey_ = key;
  lastSlot_ = found != slotOfKey_.end() ? found->second : AddSlot(*key, name.scope);
  return &slots_[lastSlot_];
}

size_t SealPass::AddSlot(const keys::ScopeKey& key, keys::Scope scope) {
  const bool shared = slots_.size() > kMaxCiphers;
  const size_t index = shared ? slots_.size() - 1 : slots_.size();
  if (!shared) {
    slots_.emplace_back();
    slotOfKey_.emplace(&key, index);
    if (scratch_.ciphers.size() == index) scratch_.ciphers.emplace_back();
  }
  // The last slot is the shared one: it is in slotOfKey_ for the key it held first, and must be found for none.
  if (slots_.size() > kMaxCiphers) slotOfKey_.erase(&key);
  Slot& slot = slots_[index];
  slot.cipher = &scratch_.ciphers[index];
  slot.cipher->SetKey(crypto::DeriveBatchKey(key.key, crypto::Suite::kAes256Gcm, salt_));
  slot.idInHeader = scope == keys::Scope::kUser ? scratch_.keyCache.mask().Mask(key.id, salt_) : key.id;
  slot.erasedSubject = key.erasedSubject;
  return index;
}

void SealPass::RefuseRecord(int32_t index, RefuseReason reason, std::string_view message) {
  if (!refusal_.has_value()) {
    refusal_ = Refuse(reason, StrCat("kveil: ", message), static_cast<uint64_t>(part_.header.count));
  }
  if (refusal_->records.size() >= kMaxListedRecords) return;
  Refusal::Record& record = refusal_->records.emplace_back();
  record.index = index;
  record.message = message;
}

SealOutcome SealPass::TakeOutcome() {
  SealOutcome outcome;
  outcome.sealed = sealed_;
  outcome.keysUsed = slots_.size();
  outcome.afterErasure = afterErasure_;
  if (refusal_.has_value()) {
    outcome.kind = SealOutcome::Kind::kRefused;
    outcome.refusal = *std::move(refusal_);
  } else if (!misses_.empty()) {
    outcome.kind = SealOutcome::Kind::kMissingKeys;
    outcome.misses = std::move(misses_);
  }
  return outcome;
}

// Bytes of the part's batch, not compressed, when each record has grown by that much.
size_t SizeAfter(const kafka::BatchPart& part, size_t growth) {
  return kafka::kBatchHeaderSize + part.records.size() + static_cast<size_t>(part.header.count) * growth;
}

SealOutcome RefusedOutcome(Refusal refusal) {
  SealOutcome outcome;
  outcome.kind = SealOutcome::Kind::kRefused;
  outcome.refusal = std::move(refusal);
  return outcome;
}

// The one batch that a produce request may hold for a partition, or why it is refused.
std::optional<Refusal> ReadOnlyBatch(Bytes records, kafka::BatchView& batch) {
  kafka::BatchReader reader(records);
  switch (reader.Next(batch)) {
    case kafka::BatchReader::Result::kBatch:
      break;
    case kafka::BatchReader::Result::kEnd:
      return Refuse(RefuseReason::kMalformed, "kveil: the partition holds no record batch");
    case kafka::BatchReader::Result::kPartial:
      return Refuse(RefuseReason::kMalformed, "kveil: the record batch ends early");
    case kafka::BatchReader::Result::kMalformed:
      return Refuse(RefuseReason::kMalformed, StrCat("kveil: ", reader.status().message()));
  }
  if (batch.isLegacy()) {
    return Refuse(RefuseReason::kOldFormat, "kveil: message format 0 or 1 has no headers and cannot be sealed");
  }
  if (!reader.rest().empty()) {
    return Refuse(RefuseReason::kMalformed, "kveil: more than one record batch for the partition");
  }
  if (batch.header.count < 1) return Refuse(RefuseReason::kMalformed, "kveil: the record batch has no record");
  const auto count = static_cast<uint64_t>(batch.header.count);
  if (!kafka::CheckCrc(batch).ok()) {
    return Refuse(RefuseReason::kBadChecksum, "kveil: the record batch's checksum is wrong", count);
  }
  if (batch.header.isControl()) {
    return Refuse(RefuseReason::kMalformed, "kveil: a client may not write control batches", count);
  }
  if (batch.header.count > static_cast<int64_t>(crypto::kMaxRecordIndex)) {
    return Refuse(RefuseReason::kTooLarge, "kveil: more than two million records in one batch", count);
  }
  return std::nullopt;
}

// One part, as one batch: compressed where it would be too large otherwise, as that shrinks what sealing adds. Of a
// record that is alone, and so cannot be put into a smaller batch, the value is compressed too.
SealOutcome SealPart(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, ByteBuffer& out) {
  kafka::Codec codec = part.header.codec();
  const kafka::Codec forGrowth = task.zstdAllowed ? kafka::Codec::kZstd : kafka::Codec::kLz4;
  const bool isAlone = part.header.count == 1;
  const size_t start = out.size();
  // Here where it is certain to be needed, below where it turns out to be.
  bool tooLarge = codec == kafka::Codec::kNone && SizeAfter(part, kLeastGrowth) > task.topicLimit;
  for (;;) {
    if (tooLarge) codec = forGrowth;
    const bool compressValues =
        task.topic->seal->compressValues && (part.header.codec() != kafka::Codec::kNone || (tooLarge && isAlone));
    SealPass pass(task, scratch, part, compressValues);
    pass.Run(out);
    if (pass.refused() || pass.missing()) {
      scratch.writer.Abandon();
      return pass.TakeOutcome();
    }
    const absl::Status finished = scratch.writer.Finish(codec);
    if (!finished.ok()) {
      return RefusedOutcome(Refuse(RefuseReason::kTooLarge, StrCat("kveil: ", finished.message()),
                                   static_cast<uint64_t>(part.header.count)));
    }
    const size_t size = out.size() - start;
    if (codec == forGrowth || size <= task.topicLimit || (pass.sealedBytes() > task.topicLimit && !isAlone)) {
      SealOutcome outcome = pass.TakeOutcome();
      outcome.parts.push_back({.size = size, .records = part.header.count});
      return outcome;
    }
    out.resize(start);
    tooLarge = true;
  }
}

// Bytes that the part's values come to when they are sealed as they are; no compression makes that less.
size_t SealedValueBytes(const kafka::BatchPart& part) {
  size_t bytes = 0;
  kafka::RecordReader reader(part.records, part.header.count);
  for (kafka::RecordView record; reader.Next(record);) {
    if (record.value.has_value()) bytes += record.value->size() + crypto::kTagSize;
  }
  return bytes;
}

SealOutcome SealInParts(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole,
                        absl::Span<const int32_t> counts, ByteBuffer& out) {
  SealOutcome sum;
  ByteBuffer buffer;
  const absl::StatusOr<std::vector<kafka::BatchPart>> parts = kafka::Cut(whole, counts, buffer);
  if (!parts.ok()) {
    return RefusedOutcome(Refuse(RefuseReason::kMalformed, StrCat("kveil: ", parts.status().message()),
                                 static_cast<uint64_t>(whole.header.count)));
  }
  for (const kafka::BatchPart& part : *parts) {
    SealOutcome outcome = SealPart(task, scratch, part, out);
    if (outcome.kind != SealOutcome::Kind::kSealed) return outcome;
    sum.sealed += outcome.sealed;
    sum.keysUsed += outcome.keysUsed;
    sum.afterErasure += outcome.afterErasure;
    sum.parts.push_back(outcome.parts.front());
  }
  return sum;
}

bool AllFit(const SealOutcome& outcome, size_t limit) {
  return std::all_of(outcome.parts.begin(), outcome.parts.end(),
                     [limit](const SealedPart& part) { return part.size <= limit; });
}

// The batch whole where that fits, else in as few parts as will do, or whole and too large where none will.
SealOutcome SealAsNeeded(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole, ByteBuffer& out) {
  const size_t start = out.size();
  if (!task.partCounts.empty()) {
    SealOutcome settled = SealInParts(task, scratch, whole, task.partCounts, out);
    if (settled.kind == SealOutcome::Kind::kSealed) return settled;
    out.resize(start);
    return SealPart(task, scratch, whole, out);
  }
  // Where offsets and records do not agree, the batch is the broker's to refuse.
  const bool maySplit = whole.header.count > 1 && whole.header.lastOffsetDelta == whole.header.count - 1;
  size_t size = SizeAfter(whole, kMostGrowth);
  if (!maySplit || whole.header.codec() != kafka::Codec::kNone || size <= task.topicLimit ||
      SealedValueBytes(whole) <= task.topicLimit) {
    SealOutcome outcome = SealPart(task, scratch, whole, out);
    if (outcome.kind != SealOutcome::Kind::kSealed || !maySplit || AllFit(outcome, task.topicLimit)) return outcome;
    size = outcome.parts.front().size;
    if (size / task.topicLimit >= kMostParts) return outcome;
    out.resize(start);
  }
  const size_t most = std::min(kMostParts, static_cast<size_t>(whole.header.count));
  size_t parts = size / (task.topicLimit - task.topicLimit / 16) + 1;
  for (; parts <= most; parts = parts < most ? std::min(2 * parts, most) : most + 1) {
    const absl::StatusOr<std::vector<int32_t>> counts = kafka::EvenCounts(whole, parts);
    if (!counts.ok()) break;
    SealOutcome outcome = SealInParts(task, scratch, whole, *counts, out);
    if (outcome.kind == SealOutcome::Kind::kSealed && AllFit(outcome, task.topicLimit)) return outcome;
    out.resize(start);
    if (outcome.kind != SealOutcome::Kind::kSealed) break;
  }
  // Too large for good; or something is wrong or missing, which is told of the whole batch.
  return SealPart(task, scratch, whole, out);
}

}  // namespace

SealOutcome SealBatch(const SealTask& task, WorkerScratch& scratch, ByteBuffer& out) {
  kafka::BatchView batch;
  if (std::optional<Refusal> refusal = ReadOnlyBatch(task.records, batch); refusal.has_value()) {
    return RefusedOutcome(*std::move(refusal));
  }
  const absl::StatusOr<Bytes> records = kafka::UncompressedRecords(batch, task.batchLimit, scratch.records);
  if (!records.ok()) {
    const bool tooLarge = absl::IsResourceExhausted(records.status());
    return RefusedOutcome(Refuse(tooLarge ? RefuseReason::kTooLarge : RefuseReason::kMalformed,
                                 StrCat("kveil: ", records.status().message()),
                                 static_cast<uint64_t>(batch.header.count)));
  }
  scratch.keyCache.Refresh();
  // What is too large for the broker as it came is the broker's to refuse: it stays too large.
  SealTask part = task;
  if (batch.whole.size() > task.topicLimit) part.topicLimit = std::numeric_limits<size_t>::max();
  return SealAsNeeded(part, scratch, {.header = batch.header, .records = *records}, out);
}

}  // namespace kveil::guard
