#include "guard/open/batch_opener.h"

#include <string>

#include "base/text.h"
#include "guard/open/open_pass.h"
#include "guard/stages/authorize.h"
#include "kafka/batch_writer.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

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
  // It has no user and no headers, and its value may be anything: no condition is known to be met.
  const bool isDenied = task.readers != nullptr;
  // It has no place for a mask. It is left out instead, as it would be by most policies, where the reader can go on.
  if (isDenied && task.masking.denied && task.masking.needed)
    return Stopped(RefuseReason::kOldFormat, kNoPlaceForAMask);
  const bool isForNobody = task.topic->plaintext == policy::PlaintextRule::kDrop;
  const bool endsAtDenied = task.topic->onDenied == policy::OnHidden::kError && !isForNobody;
  if (isDenied && endsAtDenied && batch.header.baseOffset >= task.fetchOffset) {
    return Stopped(RefuseReason::kDenied, kMayNotRead);
  }
  if (!isDenied) {
    const Decision decision = AuthorizeFetched(*task.topic, task.masking).OfLegacyMessage();
    if (decision.verdict == Verdict::kStop) return Stopped(decision.problem.reason, decision.problem.message);
    outcome.plaintext = 1;
    if (decision.verdict == Verdict::kPass) return outcome;
    outcome.plaintextDropped = true;
  }
  outcome.denied = isDenied ? 1 : 0;
  outcome.deniedDropped = isDenied;
  kafka::BatchHeader hidden;
  hidden.baseOffset = batch.header.baseOffset;
  kafka::AppendControlFiller(hidden, out);
  outcome.kind = OpenOutcome::Kind::kRewritten;
  return outcome;
}

}  // namespace

OpenOutcome OpenBatch(const OpenTask& task, const kafka::BatchView& batch, WorkerScratch& scratch, ByteBuffer& out) {
  scratch.decompressedBytes = 0;
  scratch.ruleWork = 0;
  if (batch.isLegacy()) return PassLegacy(task, batch, out);
  // The checksum of a rewritten batch is made anew, so a wrong one must be noticed here or never.
  if (!kafka::CheckCrc(batch).ok()) return Stopped(RefuseReason::kBadChecksum, "the record batch's checksum is wrong");
  if (batch.header.isControl()) return OpenOutcome();
  const absl::StatusOr<Bytes> records = kafka::UncompressedRecords(batch, task.batchLimit, scratch.records);
  if (batch.header.codec() != kafka::Codec::kNone) scratch.decompressedBytes = scratch.records.size();
  OpenOutcome outcome;
  if (records.ok()) {
    scratch.keyCache.Refresh();
    bool isAgain = false;
    do {  // twice at most
      OpenPass pass(task, scratch, batch.header, /*emptyMasks=*/isAgain);
      outcome = pass.Run(*records, out);
      isAgain = !isAgain && pass.mayFitWithEmptyMasks();
      if (isAgain) scratch.ruleWork = 0;
    } while (isAgain);
  } else {
    outcome = Stopped(absl::IsResourceExhausted(records.status()) ? RefuseReason::kTooLarge : RefuseReason::kMalformed,
                      ToStd(records.status().message()));
  }
  scratch.Trim();
  return outcome;
}

}  // namespace kveil::guard
