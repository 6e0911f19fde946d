#include "guard/batch_sealer.h"

#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "kafka/record_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using observe::RefuseReason;

// What an envelope adds at least: the header's name and lengths, version, flags, key id, salt, index, and the tag.
constexpr size_t kLeastGrowth = 1 + crypto::kEnvelopeHeaderName.size() + 1 + (1 + 1 + 16 + 12 + 1) + crypto::kTagSize;
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

// One pass over the records of one batch.
class SealPass {
 public:
  SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchHeader& header, bool compressValues)
      : task_(task),
        boundTopic_(task.topic->origin.empty() ? task.topicName : std::string_view(task.topic->origin)),
        rule_(*task.topic->seal),
        scratch_(scratch),
        header_(header),
        compressValues_(compressValues),
        salt_(crypto::RandomSalt()) {}

  // Writes all records, or collects what is wrong with them or missing for them.
  void Run(Bytes records, ByteBuffer& out);

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
  void RefuseRecord(int32_t index, RefuseReason reason, std::string_view message);
  Bytes ValueToSeal(const kafka::RecordView& record, uint8_t& flags);
  static bool CarriesEnvelope(const kafka::RecordView& record, bool& malformed);

  const SealTask& task_;
  const std::string_view boundTopic_;
  const policy::SealRule& rule_;
  WorkerScratch& scratch_;
  const kafka::BatchHeader& header_;
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

void SealPass::Run(Bytes records, ByteBuffer& out) {
  scratch_.writer.Begin(header_, out);
  kafka::RecordReader reader(records, header_.count);
  kafka::RecordView record;
  int32_t index = 0;
  while (reader.Next(record)) {
    SealRecord(record, index);
    ++index;
  }
  if (!reader.status().ok()) {
    refusal_ = Refuse(RefuseReason::kMalformed, std::string(reader.status().message()), header_.count);
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
    refusal_ = Refuse(reason, StrCat("kveil: ", message), static_cast<uint64_t>(header_.count));
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
  const bool mayCompressValues = task.topic->seal->compressValues;
  kafka::Codec codec = batch.header.codec();
  // Sealing adds about 57 bytes a record. A batch that the broker would have taken before must not be refused for
  // that, and cannot be split (its sequence numbers are the producer's): so it is compressed, which shrinks what was
  // added. Here where that is certain to be needed, below where it turns out to be.
  const kafka::Codec forGrowth = task.zstdAllowed ? kafka::Codec::kZstd : kafka::Codec::kLz4;
  const size_t grown = batch.whole.size() + static_cast<size_t>(batch.header.count) * kLeastGrowth;
  if (codec == kafka::Codec::kNone && grown > task.topicLimit) codec = forGrowth;
  bool compressValues = mayCompressValues && codec != kafka::Codec::kNone;
  const size_t start = out.size();
  for (;;) {
    SealPass pass(task, scratch, batch.header, compressValues);
    pass.Run(*records, out);
    if (pass.refused() || pass.missing()) {
      scratch.writer.Abandon();
      return pass.TakeOutcome();
    }
    const absl::Status finished = scratch.writer.Finish(codec);
    if (!finished.ok()) {
      return RefusedOutcome(Refuse(RefuseReason::kTooLarge, StrCat("kveil: ", finished.message()),
                                   static_cast<uint64_t>(batch.header.count)));
    }
    if (codec == forGrowth || out.size() - start <= task.topicLimit) return pass.TakeOutcome();
    out.resize(start);
    codec = forGrowth;
    compressValues = mayCompressValues;
  }
}

}  // namespace kveil::guard
