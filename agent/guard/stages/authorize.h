// Stage 3: whether a record may go on, once it is known whose it is. (Which records rules let a reader have, `select`
// decides before.) What does not depend on the record is decided in the constructor, once for a batch.
//
// This concerns fetched records only. Who may write a record of a user (which `select` decides) may also write one of
// an erased user: it is sealed with a key that nobody keeps.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "guard/client/masking.h"
#include "guard/stages/owner.h"
#include "guard/worker/problem.h"
#include "kafka/record.h"
#include "observe/metrics.h"
#include "policy/policy.h"

namespace kveil::guard {

enum class Verdict : uint8_t {
  kPass,
  kHide,  // the reader does not see the record
  kMask,  // the reader sees it without its value
  kStop,  // the reader gets nothing from this record on
};

struct Decision {
  Verdict verdict = Verdict::kPass;
  observe::DropReason why = observe::DropReason::kErased;  // kHide, kMask
  Problem problem;                                         // kStop
};

inline constexpr std::string_view kMayNotRead = "no entry of \"read\" lets the reader have a record (onDenied: error)";
inline constexpr std::string_view kNoPlaceForAMask = "a message of format 0 or 1 has no headers and cannot be masked";

class AuthorizeFetched {
 public:
  AuthorizeFetched(const policy::TopicPolicy& topic, Masking masking) {
    erased_.verdict = masking.erased ? Verdict::kMask : Verdict::kHide;
    erased_.why = observe::DropReason::kErased;
    if (topic.plaintext == policy::PlaintextRule::kPass) return;
    plaintext_.verdict = masking.plaintext ? Verdict::kMask : Verdict::kHide;
    plaintext_.why = observe::DropReason::kPlaintext;
  }

  // Before the record is opened: what a reader may not have is not decrypted.
  const Decision& Of(const kafka::RecordView& record, const Owner& owner) const {
    switch (owner.state) {
      case Owner::State::kNobody:
        return record.value.has_value() ? plaintext_ : pass_;  // a tombstone has no value to hide
      case Owner::State::kErased:
        return erased_;
      case Owner::State::kPresent:
      case Owner::State::kPending:
        break;
    }
    return pass_;
  }

  // A message of format 0 or 1 has no headers, so it is plaintext, and there is no place to say that it is masked.
  Decision OfLegacyMessage() const {
    if (plaintext_.verdict != Verdict::kMask) return plaintext_;
    Decision stop;
    stop.verdict = Verdict::kStop;
    stop.problem = {observe::RefuseReason::kOldFormat, kNoPlaceForAMask};
    return stop;
  }

 private:
  const Decision pass_{};
  Decision erased_;
  Decision plaintext_;
};

}  // namespace kveil::guard
