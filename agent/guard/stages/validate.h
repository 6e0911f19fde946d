// Stage 1: whether a record has the form that the other stages rely on. Checks against a schema belong here.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "guard/worker/problem.h"
#include "kafka/record.h"

namespace kveil::guard {

// The headers of a record that are named `kveil`. Both directions look for them here, so that they agree on what is
// sealed.
struct EnvelopeHeaders {
  int count = 0;
  kafka::HeaderView first;
  bool wellFormed = true;  // all of the record's headers are; otherwise `count` covers those before the malformed one
};

// With a constant size, a comparison is no call.
inline bool IsEnvelopeName(std::string_view name) {
  return name.size() == crypto::kEnvelopeHeaderName.size() &&
         std::memcmp(name.data(), crypto::kEnvelopeHeaderName.data(), crypto::kEnvelopeHeaderName.size()) == 0;
}

inline EnvelopeHeaders FindEnvelopeHeaders(const kafka::RecordView& record) {
  EnvelopeHeaders found;
  if (record.headerCount == 0) return found;
  kafka::HeaderReader reader(record);
  kafka::HeaderView further;
  kafka::HeaderView* header = &found.first;
  while (reader.Next(*header)) {
    if (!IsEnvelopeName(header->key)) continue;
    ++found.count;
    header = &further;
  }
  found.wellFormed = reader.status().ok();
  return found;
}

class ValidateProduced {
 public:
  // `index`: of the record in its batch. Producers count offsets from 0 on, and brokers ask that of compressed batches
  // (LogValidator). Where they do not look, a batch could claim offsets that are other records'.
  std::optional<Problem> Of(const kafka::RecordView& record, int32_t index) const {
    if (record.offsetDelta != index) {
      return Problem{observe::RefuseReason::kMalformed, "the record's offset delta is not its place in the batch"};
    }
    if (record.headerCount == 0) return std::nullopt;
    const EnvelopeHeaders found = FindEnvelopeHeaders(record);
    if (found.count > 0) {
      return Problem{observe::RefuseReason::kAlreadySealed, "the record already carries a kveil header"};
    }
    if (!found.wellFormed) return Problem{observe::RefuseReason::kMalformed, "the record's headers do not parse"};
    return std::nullopt;
  }
};

// The envelope of a fetched record. Views of the record, or of the stage's scratch: valid until its next record.
struct Envelope {
  bool isMasked() const { return (fields.flags & crypto::kFlagMaskedKeyId) != 0; }          // the key id
  bool isUnderKek() const { return (fields.flags & crypto::kFlagUnderKek) != 0; }           // and has its key's id
  bool isCompressed() const { return (fields.flags & crypto::kFlagCompressedValue) != 0; }  // before it was sealed

  bool isThere = false;           // otherwise the rest is not set: the record is plaintext, or a tombstone
  Bytes header;                   // with its lengths
  Bytes value;                    // the header's value as it was written
  crypto::EnvelopeHeader fields;  // `identify` takes the key id's mask off
};

class ValidateFetched {
 public:
  // `lastOffsetDelta`: of the batch.
  ValidateFetched(ByteBuffer& scratch, int32_t lastOffsetDelta)
      : scratch_(scratch), lastOffsetDelta_(lastOffsetDelta) {}

  // Each record of the batch, in order. One with an envelope that passes has a value. The problem's message is valid
  // until the next call.
  std::optional<Problem> Of(const kafka::RecordView& record, Envelope& envelope) {
    // Compaction leaves gaps, but nothing else. What is behind a record is known by its offset.
    if (record.offsetDelta <= offsetDelta_ || record.offsetDelta > lastOffsetDelta_) {
      return Problem{observe::RefuseReason::kMalformed, "a record's offset is out of order, or not one of its batch"};
    }
    offsetDelta_ = record.offsetDelta;
    const EnvelopeHeaders found = FindEnvelopeHeaders(record);
    if (!found.wellFormed || found.count > 1) {
      return Tampered("a record's headers are malformed or hold two envelopes");
    }
    envelope.isThere = found.count == 1;
    if (!envelope.isThere) return std::nullopt;
    if (!found.first.value.has_value() || !record.value.has_value()) {
      return Tampered("a record has an envelope without content");
    }
    envelope.header = found.first.whole;
    envelope.value = crypto::RestoreEnvelopeHeader(*found.first.value, scratch_);
    const absl::Status parsed = crypto::ParseEnvelopeHeader(envelope.value, envelope.fields);
    if (!parsed.ok()) {
      message_ = std::string(ToStd(parsed.message()));
      return Tampered(message_);
    }
    if ((envelope.fields.flags & (crypto::kFlagInlineKey | crypto::kFlagFieldsOnly)) != 0) {
      return Tampered("an envelope with inline keys or sealed fields, which this version does not open");
    }
    return std::nullopt;
  }

 private:
  static Problem Tampered(std::string_view message) { return {observe::RefuseReason::kTampered, message}; }

  ByteBuffer& scratch_;
  const int32_t lastOffsetDelta_;
  int32_t offsetDelta_ = -1;  // of the last record
  std::string message_;       // of the last problem
};

}  // namespace kveil::guard
