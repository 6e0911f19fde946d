#include "guard/open/open_pass.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/text.h"
#include "kafka/batch_writer.h"

namespace kveil::guard {

using observe::RefuseReason;

OpenPass::OpenPass(const OpenTask& task, WorkerScratch& scratch, const kafka::BatchHeader& header)
    : task_(task),
      scratch_(scratch),
      header_(header),
      validate_(scratch.header),
      identify_(task.keysLimit, scratch, needs_),
      authorize_(*task.topic, task.masking),
      transform_(*task.topic, task.topicName, task.batchLimit, scratch),
      observe_(header, outcome_) {}

// What becomes of one record, stage by stage (guard/stages/stages.h).
void OpenPass::OpenRecord(const kafka::RecordView& record) {
  const Owner* owner = nullptr;
  if (const auto problem = validate_.Of(record, envelope_)) return Stop(*problem);
  if (const auto problem = identify_.Of(envelope_, owner)) return Stop(*problem);
  const Decision& decision = authorize_.Of(record, *owner);
  if (decision.verdict == Verdict::kStop) return Stop(decision.problem);
  if (!needs_.empty()) return;  // the next pass writes the batch
  if (const auto problem = transform_.Of(record, envelope_, *owner, decision)) return Stop(*problem);
  observe_.Of(record, *owner, decision);
}

OpenOutcome OpenPass::Run(Bytes records, ByteBuffer& out) {
  scratch_.writer.Begin(header_, out);
  kafka::RecordReader reader(records, header_.count);
  kafka::RecordView record;
  while (!stopped() && reader.Next(record)) OpenRecord(record);
  if (!stopped() && !reader.status().ok()) Stop(RefuseReason::kMalformed, ToStd(reader.status().message()));
  scratch_.decompressedBytes = std::max(scratch_.decompressedBytes, scratch_.writer.size());
  if (stopped()) {
    scratch_.writer.Abandon();  // and nothing is waited for
  } else if (!needs_.empty()) {
    scratch_.writer.Abandon();
    outcome_.kind = OpenOutcome::Kind::kNeeds;
    outcome_.needs = std::move(needs_);
  } else {
    FinishBatch(out);
  }
  return std::move(outcome_);
}

void OpenPass::FinishBatch(ByteBuffer& out) {
  if (observe_.ChangesNothing()) return scratch_.writer.Abandon();
  outcome_.kind = OpenOutcome::Kind::kRewritten;
  outcome_.keysUsed = identify_.keysUsed();
  if (observe_.LeavesNothingFrom(task_.fetchOffset)) {
    scratch_.writer.Abandon();
    kafka::AppendControlFiller(header_, out);
    return;
  }
  const absl::Status finished = scratch_.writer.Finish(CodecOfResult());
  if (!finished.ok()) Stop(RefuseReason::kTooLarge, ToStd(finished.message()));
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
  outcome_.kind = OpenOutcome::Kind::kStop;
  outcome_.reason = reason;
  outcome_.problem = std::string(problem);
}

}  // namespace kveil::guard
