// Stage 1: whether a record has the form that the other stages rely on. Checks against a schema belong here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "crypto/key_id.h"
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

inline EnvelopeHeaders FindEnvelopeHeaders(const kafka::RecordView& record) {
  EnvelopeHeaders found;
  if (record.headerCount == 0) return found;
  kafka::HeaderReader reader(record);
  kafka::HeaderView further;
  kafka::HeaderView* header = &found.first;
  while (reader.Next(*header)) {
    if (header->key != crypto::kEnvelopeHeaderName) continue;
    ++found.count;
    header = &further;
  }
  found.wellFormed = reader.status().ok();
  return found;
}

class ValidateProduced {
 public:
  std::optional<Problem> Of(const kafka::RecordView& record) const {
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
  bool isThere = false;  // otherwise the rest is not set: the record is plaintext, or a tombstone
  Bytes header;          // with its lengths
  Bytes value;           // the header's value as it was written
  crypto::KeyId keyId;   // as it travels; `identify` takes its mask off
  crypto::Salt salt;
  bool isMasked = false;  // the key id
  crypto::Suite suite = crypto::Suite::kBatchKey;
  crypto::Period period = 0;
  bool isCompressed = false;  // the value, before it was sealed
  uint64_t recordIndex = 0;
};

class ValidateFetched {
 public:
  explicit ValidateFetched(ByteBuffer& scratch) : scratch_(scratch) {}

  // A record with an envelope that passes has a value. The problem's message is valid until the next call.
  std::optional<Problem> Of(const kafka::RecordView& record, Envelope& envelope) {
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
    const absl::StatusOr<crypto::EnvelopeHeader> fields = crypto::ParseEnvelopeHeader(envelope.value);
    if (!fields.ok()) {
      message_ = std::string(ToStd(fields.status().message()));
      return Tampered(message_);
    }
    if ((fields->flags & (crypto::kFlagInlineKey | crypto::kFlagFieldsOnly)) != 0) {
      return Tampered("an envelope with inline keys or sealed fields, which this version does not open");
    }
    // Field by field: the CPU would stall on wider loads of what was written just now.
    envelope.keyId = fields->keyId;
    envelope.salt = fields->salt;
    envelope.isMasked = (fields->flags & crypto::kFlagMaskedKeyId) != 0;
    envelope.suite = fields->suite;
    envelope.period = fields->period;
    envelope.isCompressed = (fields->flags & crypto::kFlagCompressedValue) != 0;
    envelope.recordIndex = fields->recordIndex;
    return std::nullopt;
  }

 private:
  static Problem Tampered(std::string_view message) { return {observe::RefuseReason::kTampered, message}; }

  ByteBuffer& scratch_;
  std::string message_;  // of the last problem
};

}  // namespace kveil::guard
