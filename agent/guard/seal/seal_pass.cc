#include "guard/seal/seal_pass.h"

#include <utility>

#include "base/text.h"
#include "kafka/compression.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

// A batch with more users than this makes do with one more cipher, whose key is set anew for each record: a cipher
// holds about two kilobytes.
constexpr size_t kMaxCiphers = 4096;
// A response lists no more bad records than this; the batch fails as a whole anyway.
constexpr size_t kMaxListedRecords = 100;

}  // namespace

SealPass::SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, bool compressValues)
    : task_(task),
      rule_(*task.topic->seal),
      scratch_(scratch),
      part_(part),
      compressValues_(compressValues),
      salt_(crypto::RandomSalt()) {}

SealPass::~SealPass() {
  for (Slot& slot : slots_) slot.cipher->ClearKey();
}

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
    refusal_ = Refuse(kafka::ErrorCode::kInvalidRecord, RefuseReason::kMalformed,
                      std::string(reader.status().message()), part_.header.count);
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
  crypto::BuildAad(headerValue, task_.topicName, record.key, scratch_.aad);
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
  const std::optional<UserFinder::Problem> problem = scratch_.userFinder.Find(rule_.user, record, user);
  if (!problem.has_value()) return SlotFor(keys::ScopeName{keys::Scope::kUser, rule_.keyspace, user});
  RefuseRecord(index, problem->reason, problem->message);
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
    refusal_ = Refuse(kafka::ErrorCode::kInvalidRecord, reason, StrCat("kveil: ", message),
                      static_cast<uint64_t>(part_.header.count));
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

}  // namespace kveil::guard
