#include "guard/open/batch_opener.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/text.h"
#include "crypto/envelope.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

// As in sealing: more keys than this in one batch share one cipher.
constexpr size_t kMaxCiphers = 4096;

// What names the key of a record's envelope: the id as it travels, and the salt it is masked with.
struct EnvelopeKey {
  crypto::KeyId id;
  crypto::Salt salt;
  bool masked = false;

  friend bool operator==(const EnvelopeKey&, const EnvelopeKey&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const EnvelopeKey& key) {
    return H::combine(std::move(state), key.id, key.salt, key.masked);
  }
};

class OpenPass {
 public:
  OpenPass(const OpenTask& task, WorkerScratch& scratch, const kafka::BatchHeader& header)
      : task_(task), scratch_(scratch), header_(header) {}
  OpenPass(const OpenPass&) = delete;
  OpenPass& operator=(const OpenPass&) = delete;
  // Wipes the batch's keys.
  ~OpenPass() {
    for (size_t i = 0; i < std::min(ciphersUsed_, kMaxCiphers + 1); ++i) scratch_.ciphers[i].ClearKey();
  }

  OpenOutcome Run(Bytes records, ByteBuffer& out);

 private:
  enum class KeyState { kReady, kErased, kMissing, kStopped };
  struct Slot {
    KeyState state = KeyState::kMissing;
    crypto::BatchCipher* cipher = nullptr;
  };

  void OpenRecord(const kafka::RecordView& record);
  void PassPlaintext(const kafka::RecordView& record);
  void Mask(const kafka::RecordView& record, const kafka::HeaderEdit& edit);
  void OpenValue(const kafka::RecordView& record, const kafka::HeaderView& header, Bytes headerValue,
                 const crypto::EnvelopeHeader& envelope, crypto::BatchCipher& cipher);
  bool Unseal(const kafka::RecordView& record, Bytes headerValue, const crypto::EnvelopeHeader& envelope,
              crypto::BatchCipher& cipher, uint8_t* value);
  Slot SlotFor(const crypto::EnvelopeHeader& envelope);
  Slot MakeSlot(const crypto::EnvelopeHeader& envelope);
  // The one `kveil` header of a record. False when its headers are malformed or hold more than one.
  bool FindEnvelope(const kafka::RecordView& record, std::optional<kafka::HeaderView>& envelope);
  void Stop(RefuseReason reason, std::string_view problem);
  kafka::Codec CodecOfResult() const;
  void CountVisible(const kafka::RecordView& record);

  // The limit is one for the batch: many small values may each decompress to much.
  size_t RoomLeft() const { return task_.batchLimit - std::min(task_.batchLimit, scratch_.writer.size()); }
  bool writing() const { return !stopped_ && outcome_.misses.empty(); }

  const OpenTask& task_;
  WorkerScratch& scratch_;
  const kafka::BatchHeader& header_;
  OpenOutcome outcome_;
  bool stopped_ = false;
  uint64_t hidden_ = 0;
  bool masked_ = false;
  int64_t lastVisibleOffset_ = -1;
  absl::flat_hash_map<EnvelopeKey, Slot> slots_;
  absl::flat_hash_set<crypto::KeyId> missed_;
  EnvelopeKey lastKey_;
  Slot lastSlot_;
  bool hasLast_ = false;
  size_t ciphersUsed_ = 0;
};

OpenOutcome OpenPass::Run(Bytes records, ByteBuffer& out) {
  scratch_.writer.Begin(header_, out);
  kafka::RecordReader reader(records, header_.count);
  kafka::RecordView record;
  while (!stopped_ && reader.Next(record)) OpenRecord(record);
  if (!stopped_ && !reader.status().ok()) Stop(RefuseReason::kMalformed, ToStd(reader.status().message()));
  scratch_.decompressedBytes = std::max(scratch_.decompressedBytes, scratch_.writer.size());
  if (!writing()) {
    scratch_.writer.Abandon();
    if (stopped_) outcome_.misses = {};  // no key is waited for
    outcome_.kind = stopped_ ? OpenOutcome::Kind::kStop : OpenOutcome::Kind::kMissingKeys;
    return std::move(outcome_);
  }
  if (hidden_ == 0 && !masked_ && outcome_.opened == 0) {
    scratch_.writer.Abandon();
    outcome_.kind = OpenOutcome::Kind::kUnchanged;
    return std::move(outcome_);
  }
  outcome_.kind = OpenOutcome::Kind::kRewritten;
  outcome_.keysUsed = ciphersUsed_;
  if (hidden_ > 0 && (lastVisibleOffset_ < 0 || lastVisibleOffset_ < task_.fetchOffset)) {
    // Nothing is left for this reader: what was visible lies before the offset it asked for.
    scratch_.writer.Abandon();
    kafka::AppendControlFiller(header_, out);
    return std::move(outcome_);
  }
  const absl::Status finished = scratch_.writer.Finish(CodecOfResult());
  if (!finished.ok()) {
    outcome_.kind = OpenOutcome::Kind::kStop;
    outcome_.reason = RefuseReason::kTooLarge;
    outcome_.problem = std::string(finished.message());
  }
  return std::move(outcome_);
}

kafka::Codec OpenPass::CodecOfResult() const {
  const size_t size = scratch_.writer.size();
  if (size <= task_.uncompressedRoom) return kafka::Codec::kNone;
  const kafka::Codec codec = header_.codec();
  // It was not compressed, and has become smaller: what does not fit would not have fit before.
  if (codec == kafka::Codec::kNone && size <= header_.size()) return codec;
  if (codec == kafka::Codec::kNone || (codec == kafka::Codec::kZstd && !task_.zstdAllowed)) return kafka::Codec::kGzip;
  return codec;
}

void OpenPass::Stop(RefuseReason reason, std::string_view problem) {
  stopped_ = true;
  outcome_.reason = reason;
  outcome_.problem = std::string(problem);
}

void OpenPass::CountVisible(const kafka::RecordView& record) {
  // Unsigned, as a broker could send a base offset so high that a record's own would not fit.
  const uint64_t offset = static_cast<uint64_t>(header_.baseOffset) + static_cast<uint64_t>(record.offsetDelta);
  lastVisibleOffset_ = std::max(lastVisibleOffset_, static_cast<int64_t>(offset));
}

bool OpenPass::FindEnvelope(const kafka::RecordView& record, std::optional<kafka::HeaderView>& envelope) {
  if (record.headerCount == 0) return true;
  kafka::HeaderReader reader(record);
  kafka::HeaderView header;
  bool twice = false;
  while (reader.Next(header)) {
    if (header.key != crypto::kEnvelopeHeaderName) continue;
    twice = envelope.has_value();
    envelope = header;
  }
  return reader.status().ok() && !twice;
}

void OpenPass::OpenRecord(const kafka::RecordView& record) {
  std::optional<kafka::HeaderView> header;
  if (!FindEnvelope(record, header)) {
    return Stop(RefuseReason::kTampered, "a record's headers are malformed or hold two envelopes");
  }
  if (!header.has_value()) return PassPlaintext(record);
  if (!header->value.has_value() || !record.value.has_value()) {
    return Stop(RefuseReason::kTampered, "a record has an envelope without content");
  }
  const Bytes headerValue = crypto::RestoreEnvelopeHeader(*header->value, scratch_.header);
  const absl::StatusOr<crypto::EnvelopeHeader> envelope = crypto::ParseEnvelopeHeader(headerValue);
  if (!envelope.ok()) return Stop(RefuseReason::kTampered, ToStd(envelope.status().message()));
  if ((envelope->flags & (crypto::kFlagInlineKey | crypto::kFlagFieldsOnly)) != 0) {
    return Stop(RefuseReason::kTampered,
                "an envelope with inline keys or sealed fields, which this version does not open");
  }
  const Slot slot = SlotFor(*envelope);
  switch (slot.state) {
    case KeyState::kErased:
      ++outcome_.erased;
      if (task_.masking.erased) {
        return Mask(record, kafka::HeaderEdit::Exchange(header->whole, kMaskedHeaderName, AsBytes("erased")));
      }
      ++hidden_;
      return;
    case KeyState::kReady:
      if (writing()) OpenValue(record, *header, headerValue, *envelope, *slot.cipher);
      return;
    case KeyState::kMissing:
    case KeyState::kStopped:
      return;
  }
}

void OpenPass::PassPlaintext(const kafka::RecordView& record) {
  // A null value is a tombstone and never carries an envelope.
  if (record.value.has_value()) {
    ++outcome_.plaintext;
    if (task_.topic->plaintext == policy::PlaintextRule::kDrop) {
      outcome_.plaintextDropped = true;
      if (task_.masking.plaintext) {
        return Mask(record, kafka::HeaderEdit::Append(kMaskedHeaderName, AsBytes("plaintext")));
      }
      ++hidden_;
      return;
    }
  }
  if (!writing()) return;
  CountVisible(record);
  scratch_.writer.CopyRecord(record);
}

// An empty value, not a null one: that would be a tombstone, which deletes what a reader knows of the key.
void OpenPass::Mask(const kafka::RecordView& record, const kafka::HeaderEdit& edit) {
  if (!writing()) return;
  CountVisible(record);
  scratch_.writer.AddRecord(record, 0, edit);
  masked_ = true;
}

void OpenPass::OpenValue(const kafka::RecordView& record, const kafka::HeaderView& header, Bytes headerValue,
                         const crypto::EnvelopeHeader& envelope, crypto::BatchCipher& cipher) {
  if (record.value->size() < crypto::kTagSize) return Stop(RefuseReason::kTampered, "a sealed value is too short");
  const size_t openedSize = record.value->size() - crypto::kTagSize;
  const kafka::HeaderEdit withoutEnvelope = kafka::HeaderEdit::Remove(header.whole);
  constexpr std::string_view kDoesNotOpen = "a record's envelope does not fit its content, key or topic";
  if ((envelope.flags & crypto::kFlagCompressedValue) == 0) {
    uint8_t* const value = scratch_.writer.AddRecord(record, openedSize, withoutEnvelope);
    if (!Unseal(record, headerValue, envelope, cipher, value)) {
      return Stop(RefuseReason::kTampered, kDoesNotOpen);
    }
  } else {
    scratch_.compressed.resize(openedSize);
    if (!Unseal(record, headerValue, envelope, cipher, scratch_.compressed.data())) {
      return Stop(RefuseReason::kTampered, kDoesNotOpen);
    }
    const absl::Status decompressed =
        kafka::Decompress(kafka::Codec::kZstd, scratch_.compressed, RoomLeft(), scratch_.value);
    if (!decompressed.ok()) {
      const bool tooLarge = absl::IsResourceExhausted(decompressed);
      return Stop(tooLarge ? RefuseReason::kTooLarge : RefuseReason::kMalformed, ToStd(decompressed.message()));
    }
    uint8_t* const value = scratch_.writer.AddRecord(record, scratch_.value.size(), withoutEnvelope);
    std::copy(scratch_.value.begin(), scratch_.value.end(), value);
  }
  CountVisible(record);
  ++outcome_.opened;
}

// An envelope is bound to the topic that its record was produced to: this one or, in a mirror, its origin.
bool OpenPass::Unseal(const kafka::RecordView& record, Bytes headerValue, const crypto::EnvelopeHeader& envelope,
                      crypto::BatchCipher& cipher, uint8_t* value) {
  const auto unseal = [&](std::string_view topic) {
    crypto::BuildAad(headerValue, topic, record.key, scratch_.aad);
    return cipher.Open(envelope.recordIndex, scratch_.aad, *record.value, value);
  };
  const std::string_view origin = task_.topic->origin;
  return (!origin.empty() && unseal(origin)) || unseal(task_.topicName);
}

OpenPass::Slot OpenPass::SlotFor(const crypto::EnvelopeHeader& envelope) {
  EnvelopeKey key;
  key.id = envelope.keyId;
  key.salt = envelope.salt;
  key.masked = (envelope.flags & crypto::kFlagMaskedKeyId) != 0;
  if (hasLast_ && key == lastKey_) return lastSlot_;
  const auto found = slots_.find(key);
  Slot slot;
  if (found != slots_.end()) {
    slot = found->second;
  } else {
    slot = MakeSlot(envelope);
    if (ciphersUsed_ <= kMaxCiphers) slots_.emplace(key, slot);
  }
  hasLast_ = true;
  lastKey_ = key;
  lastSlot_ = slot;
  return slot;
}

OpenPass::Slot OpenPass::MakeSlot(const crypto::EnvelopeHeader& envelope) {
  Slot slot;
  crypto::KeyId id = envelope.keyId;
  if ((envelope.flags & crypto::kFlagMaskedKeyId) != 0) id = scratch_.keyCache.mask().Unmask(id, envelope.salt);
  const keys::KeyCache::Found found = scratch_.keyCache.FindById(id);
  switch (found.state) {
    case keys::KeyCache::State::kErased:
      slot.state = KeyState::kErased;
      return slot;
    case keys::KeyCache::State::kDamaged:
      Stop(RefuseReason::kKeysUnavailable, "the registry's row of a record's key is damaged");
      slot.state = KeyState::kStopped;
      return slot;
    case keys::KeyCache::State::kNotCached:
      if (missed_.size() == task_.keysLimit && !missed_.contains(id)) {
        Stop(RefuseReason::kTooLarge, "the batch needs more keys than a worker can have at once");
        slot.state = KeyState::kStopped;
        return slot;
      }
      if (missed_.insert(id).second) outcome_.misses.ids.push_back(id);
      slot.state = KeyState::kMissing;
      return slot;
    case keys::KeyCache::State::kUnknown:
      Stop(RefuseReason::kUnknownKey, "a record is sealed under a key that the registry does not know");
      slot.state = KeyState::kStopped;
      return slot;
    case keys::KeyCache::State::kReady:
      break;
  }
  const size_t index = std::min(ciphersUsed_, kMaxCiphers);
  if (scratch_.ciphers.size() == index) scratch_.ciphers.emplace_back();
  ++ciphersUsed_;
  slot.state = KeyState::kReady;
  slot.cipher = &scratch_.ciphers[index];
  slot.cipher->SetKey(crypto::DeriveBatchKey(found.key->key, envelope.suite, envelope.salt));
  return slot;
}

OpenOutcome Stopped(RefuseReason reason, std::string_view problem) {
  OpenOutcome outcome;
  outcome.kind = OpenOutcome::Kind::kStop;
  outcome.reason = reason;
  outcome.problem = std::string(problem);
  return outcome;
}

// A message of before Kafka 0.11: it has no headers, so it is plaintext by its nature.
OpenOutcome PassLegacy(const OpenTask& task, const kafka::BatchView& batch, ByteBuffer& out) {
  OpenOutcome outcome;
  outcome.plaintext = 1;
  if (task.topic->plaintext == policy::PlaintextRule::kPass) return outcome;
  if (task.masking.plaintext) {
    return Stopped(RefuseReason::kOldFormat, "a message of format 0 or 1 has no headers and cannot be masked");
  }
  kafka::BatchHeader hidden;
  hidden.baseOffset = batch.header.baseOffset;
  kafka::AppendControlFiller(hidden, out);
  outcome.plaintextDropped = true;
  outcome.kind = OpenOutcome::Kind::kRewritten;
  return outcome;
}

}  // namespace

OpenOutcome OpenBatch(const OpenTask& task, const kafka::BatchView& batch, WorkerScratch& scratch, ByteBuffer& out) {
  scratch.decompressedBytes = 0;
  if (batch.isLegacy()) return PassLegacy(task, batch, out);
  // The checksum of a rewritten batch is made anew, so a wrong one must be noticed here or never.
  if (!kafka::CheckCrc(batch).ok()) return Stopped(RefuseReason::kBadChecksum, "the record batch's checksum is wrong");
  if (batch.header.isControl()) return OpenOutcome();
  const absl::StatusOr<Bytes> records = kafka::UncompressedRecords(batch, task.batchLimit, scratch.records);
  if (batch.header.codec() != kafka::Codec::kNone) scratch.decompressedBytes = scratch.records.size();
  OpenOutcome outcome;
  if (records.ok()) {
    scratch.keyCache.Refresh();
    OpenPass pass(task, scratch, batch.header);
    outcome = pass.Run(*records, out);
  } else {
    outcome = Stopped(absl::IsResourceExhausted(records.status()) ? RefuseReason::kTooLarge : RefuseReason::kMalformed,
                      ToStd(records.status().message()));
  }
  scratch.Trim();
  return outcome;
}

}  // namespace kveil::guard
