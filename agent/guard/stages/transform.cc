#include "guard/stages/transform.h"

#include <algorithm>

#include "base/short_runs.h"
#include "base/text.h"
#include "kafka/batch_writer.h"
#include "kafka/compression.h"
#include "kafka/varint.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

constexpr int kTried = 8;        // small values of a batch that tell whether compressing the others pays
constexpr size_t kSmall = 4096;  // bytes of a value that are too few to have much in them that repeats

std::string_view NameOf(observe::DropReason why) {
  switch (why) {
    case observe::DropReason::kErased:
      return "erased";
    case observe::DropReason::kPlaintext:
      return "plaintext";
    case observe::DropReason::kDenied:
      break;
  }
  return "denied";
}

}  // namespace

TransformProduced::TransformProduced(const policy::SealRule& rule, std::string_view topicName, const BatchMarks& marks,
                                     policy::CompressValues compress, WorkerScratch& scratch)
    : flags_(rule.scope == policy::SealScope::kUser ? crypto::kFlagMaskedKeyId : uint8_t{0}),
      aad_(topicName),
      marks_(marks),
      compress_(compress),
      scratch_(scratch) {
  CopyRun(kafka::WriteVarint(header_.data(), static_cast<int32_t>(crypto::kEnvelopeHeaderName.size())),
          AsBytes(crypto::kEnvelopeHeaderName));
}

void TransformProduced::Of(const kafka::RecordView& record, const Owner& owner, int32_t index) {
  if (owner.state == Owner::State::kNobody) return scratch_.writer.CopyRecord(record);
  uint8_t flags = flags_;
  const Bytes plaintext = Compresses(*record.value) ? CompressedIfShorter(record, flags) : *record.value;
  crypto::EnvelopeHeader fields;
  fields.flags = flags;
  fields.keyId = owner.idInHeader;
  fields.suite = owner.suite;
  fields.salt = marks_.salt;
  fields.period = marks_.period;
  fields.recordIndex = static_cast<uint64_t>(index);
  if (const keys::CachedKek* const kek = owner.key->kek) {
    fields.flags |= crypto::kFlagUnderKek;
    fields.kekKeyId = kek->id;
  }
  const Bytes headerValue(header_.data() + kBeforeValue,
                          crypto::WriteEnvelopeHeader(fields, header_.data() + kBeforeValue));
  static_assert(kafka::VarintSize(static_cast<int32_t>(crypto::kMaxEnvelopeHeaderByIdSize)) == 1);
  header_[kBeforeValue - 1] = static_cast<uint8_t>(kafka::Zigzag(static_cast<int32_t>(headerValue.size())));
  const Bytes header = Bytes(header_).first(kBeforeValue + headerValue.size());
  uint8_t* const sealed =
      scratch_.writer.AddRecord(record, plaintext.size() + crypto::kTagSize, kafka::HeaderEdit::AppendWhole(header));
  const Bytes aad = aad_.Of(headerValue, record.key);
  keys::KeyCache& cache = scratch_.keyCache;
  const size_t place = cache.Expanded(*owner.key, owner.suite, marks_.period, marks_.salt);
  const crypto::Nonce nonce = crypto::NonceOf(owner.suite, marks_.salt, fields.recordIndex);
  cache.ciphers().Seal(place, nonce, aad, plaintext, sealed);
}

// Compressing a small value takes ten times as long as sealing it, and seldom saves much.
bool TransformProduced::Compresses(Bytes value) const {
  if (compress_ == policy::CompressValues::kNever) return false;
  if (compress_ == policy::CompressValues::kAlways || value.size() >= kSmall || tried_ < kTried) return true;
  return triedCompressedSize_ <= triedSize_ / 4 * 3;  // a quarter is saved at least
}

// The value itself, or its compressed form where that is shorter.
Bytes TransformProduced::CompressedIfShorter(const kafka::RecordView& record, uint8_t& flags) {
  const absl::Status compressed = kafka::Compress(kafka::Codec::kZstd, *record.value, scratch_.value);
  if (!compressed.ok()) return *record.value;
  if (tried_ < kTried && record.value->size() < kSmall) {
    ++tried_;
    triedSize_ += record.value->size();
    triedCompressedSize_ += scratch_.value.size();
  }
  if (scratch_.value.size() >= record.value->size()) return *record.value;
  flags |= crypto::kFlagCompressedValue;
  return scratch_.value;
}

// Unless the policy says so, not a null value: that would be a tombstone, which deletes what a reader knows of the key.
TransformFetched::MaskForm TransformFetched::FormOf(observe::DropReason why) const {
  switch (why) {
    case observe::DropReason::kErased:
      return {topic_.onErased == policy::OnHidden::kNull, topic_.erasedMask};
    case observe::DropReason::kDenied:
      return {topic_.onDenied == policy::OnHidden::kNull, topic_.deniedMask};
    case observe::DropReason::kPlaintext:
      break;
  }
  return {};
}

void TransformFetched::Mask(const kafka::RecordView& record, const Envelope& envelope, observe::DropReason why) {
  hasMasks_ = true;
  masksOfSealed_ += envelope.isThere ? 1 : 0;
  const MaskForm form = FormOf(why);
  const Bytes name = AsBytes(NameOf(why));
  const kafka::HeaderEdit edit = envelope.isThere
                                     ? kafka::HeaderEdit::Exchange(envelope.header, kMaskedHeaderName, name)
                                     : kafka::HeaderEdit::Append(kMaskedHeaderName, name);
  if (form.isNull) {
    scratch_.writer.AddRecord(record, kafka::BatchWriter::kNullValue, edit);
  } else {
    const Bytes value = emptyMasks_ ? Bytes() : AsBytes(form.value);
    hasMaskValues_ |= !value.empty();
    std::copy(value.begin(), value.end(), scratch_.writer.AddRecord(record, value.size(), edit));
  }
}

// What is sealed is given as it is. A tombstone is, too: it has no value.
bool TransformFetched::OfDenied(const kafka::RecordView& record, const Envelope& envelope) {
  const bool isClear = record.value.has_value() && !envelope.isThere;
  if (topic_.onDenied != policy::OnHidden::kSealed || isClear) {
    Mask(record, envelope, observe::DropReason::kDenied);
    return false;
  }
  scratch_.writer.CopyRecord(record);
  return true;
}

std::optional<Problem> TransformFetched::Open(const kafka::RecordView& record, const Envelope& envelope,
                                              keys::CachedKey& key) {
  if (record.value->size() < crypto::kTagSize) {
    return Problem{RefuseReason::kTampered, "a sealed value is too short"};
  }
  const size_t openedSize = record.value->size() - crypto::kTagSize;
  uint8_t* opened;
  if (envelope.isCompressed()) {
    scratch_.compressed.resize(openedSize);
    opened = scratch_.compressed.data();
  } else {
    opened = scratch_.writer.AddRecord(record, openedSize, kafka::HeaderEdit::Remove(envelope.header));
  }
  keys::KeyCache& cache = scratch_.keyCache;
  const crypto::EnvelopeHeader& fields = envelope.fields;
  const size_t place = cache.Expanded(key, fields.suite, fields.period, fields.salt);
  const crypto::Nonce nonce = crypto::NonceOf(fields.suite, fields.salt, fields.recordIndex);
  // An envelope is bound to the topic that its record was produced to: this one or, in a mirror, its origin.
  const auto unseal = [&](crypto::TopicAad& topic) {
    return cache.ciphers().Open(place, nonce, topic.Of(envelope.value, record.key), *record.value, opened);
  };
  if (!(originAad_.has_value() && unseal(*originAad_)) && !unseal(aad_)) {
    return Problem{RefuseReason::kTampered, "a record's envelope does not fit its content, key or topic"};
  }
  opened_ = Bytes(opened, openedSize);
  return envelope.isCompressed() ? Decompress(record, envelope) : std::nullopt;
}

std::optional<Problem> TransformFetched::Decompress(const kafka::RecordView& record, const Envelope& envelope) {
  // The limit is one for the batch: many small values may each decompress to much.
  const size_t roomLeft = batchLimit_ - std::min(batchLimit_, size() + scratch_.takenBack);
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
  opened_ = Bytes(value, scratch_.value.size());
  return std::nullopt;
}

}  // namespace kveil::guard
