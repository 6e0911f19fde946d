#include "guard/stages/transform.h"

#include <algorithm>

#include "base/text.h"
#include "kafka/batch_writer.h"
#include "kafka/compression.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

std::string_view NameOf(observe::DropReason why) {
  return why == observe::DropReason::kErased ? "erased" : "plaintext";
}

}  // namespace

void TransformProduced::Of(const kafka::RecordView& record, const Owner& owner, int32_t index) {
  if (owner.state == Owner::State::kNobody) return scratch_.writer.CopyRecord(record);
  crypto::EnvelopeHeader fields;
  fields.flags = flags_;
  const Bytes plaintext = ValueToSeal(record, fields.flags);
  fields.keyId = owner.idInHeader;
  fields.suite = owner.suite;
  fields.salt = marks_.salt;
  fields.period = marks_.period;
  fields.recordIndex = static_cast<uint64_t>(index);
  uint8_t headerBytes[crypto::kMaxEnvelopeHeaderByIdSize];
  const Bytes headerValue(headerBytes, crypto::WriteEnvelopeHeader(fields, headerBytes));
  uint8_t* const sealed = scratch_.writer.AddRecord(
      record, plaintext.size() + crypto::kTagSize, kafka::HeaderEdit::Append(crypto::kEnvelopeHeaderName, headerValue));
  crypto::BuildAad(headerValue, topicName_, record.key, scratch_.aad);
  keys::KeyCache& cache = scratch_.keyCache;
  const size_t place = cache.Expanded(*owner.key, owner.suite, marks_.period, marks_.salt);
  const crypto::Nonce nonce = crypto::NonceOf(owner.suite, marks_.salt, fields.recordIndex);
  cache.ciphers().Seal(place, nonce, scratch_.aad, plaintext, sealed);
}

// The value itself, or its compressed form where that is shorter.
Bytes TransformProduced::ValueToSeal(const kafka::RecordView& record, uint8_t& flags) {
  if (!compressValues_) return *record.value;
  const absl::Status compressed = kafka::Compress(kafka::Codec::kZstd, *record.value, scratch_.value);
  if (!compressed.ok() || scratch_.value.size() >= record.value->size()) return *record.value;
  flags |= crypto::kFlagCompressedValue;
  return scratch_.value;
}

// An empty value, not a null one: that would be a tombstone, which deletes what a reader knows of the key.
void TransformFetched::Mask(const kafka::RecordView& record, const Envelope& envelope, observe::DropReason why) {
  const Bytes name = AsBytes(NameOf(why));
  scratch_.writer.AddRecord(record, 0,
                            envelope.isThere ? kafka::HeaderEdit::Exchange(envelope.header, kMaskedHeaderName, name)
                                             : kafka::HeaderEdit::Append(kMaskedHeaderName, name));
}

std::optional<Problem> TransformFetched::Open(const kafka::RecordView& record, const Envelope& envelope,
                                              keys::CachedKey& key) {
  if (record.value->size() < crypto::kTagSize) {
    return Problem{RefuseReason::kTampered, "a sealed value is too short"};
  }
  const size_t openedSize = record.value->size() - crypto::kTagSize;
  uint8_t* opened;
  if (envelope.isCompressed) {
    scratch_.compressed.resize(openedSize);
    opened = scratch_.compressed.data();
  } else {
    opened = scratch_.writer.AddRecord(record, openedSize, kafka::HeaderEdit::Remove(envelope.header));
  }
  keys::KeyCache& cache = scratch_.keyCache;
  const size_t place = cache.Expanded(key, envelope.suite, envelope.period, envelope.salt);
  const crypto::Nonce nonce = crypto::NonceOf(envelope.suite, envelope.salt, envelope.recordIndex);
  // An envelope is bound to the topic that its record was produced to: this one or, in a mirror, its origin.
  const auto unseal = [&](std::string_view topic) {
    crypto::BuildAad(envelope.value, topic, record.key, scratch_.aad);
    return cache.ciphers().Open(place, nonce, scratch_.aad, *record.value, opened);
  };
  if (!(!origin_.empty() && unseal(origin_)) && !unseal(topicName_)) {
    return Problem{RefuseReason::kTampered, "a record's envelope does not fit its content, key or topic"};
  }
  return envelope.isCompressed ? Decompress(record, envelope) : std::nullopt;
}

std::optional<Problem> TransformFetched::Decompress(const kafka::RecordView& record, const Envelope& envelope) {
  // The limit is one for the batch: many small values may each decompress to much.
  const size_t roomLeft = batchLimit_ - std::min(batchLimit_, scratch_.writer.size());
  const absl::Status decompressed =
      kafka::Decompress(kafka::Codec::kZstd, scratch_.compressed, roomLeft, scratch_.value);
  if (!decompressed.ok()) {
    message_ = std::string(ToStd(decompressed.message()));
    const bool isTooLarge = absl::IsResourceExhausted(decompressed);
    return Problem{isTooLarge ? RefuseReason::kTooLarge : RefuseReason::kMalformed, message_};
  }
  uint8_t* const value =
      scratch_.writer.AddRecord(record, scratch_.value.size(), kafka::HeaderEdit::Remove(envelope.header));
  std::copy(scratch_.value.begin(), scratch_.value.end(), value);
  return std::nullopt;
}

}  // namespace kveil::guard
