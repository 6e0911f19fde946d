#include "guard/open/open_pass.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
      observe_(header, outcome_) {
  scratch.keyCache.BeginPass();
}

size_t OpenPass::ReadRecords(kafka::RecordReader& reader, absl::Span<FetchedRecord> records) {
  for (size_t count = 0; count < records.size(); ++count) {
    FetchedRecord& record = records[count];
    if (!reader.Next(record.view)) return count;
    record.problem = validate_.Of(record.view, record.envelope);
    // What a header was decoded to lies in the worker's memory until the next one is.
    const bool isDecoded = record.envelope.isThere && record.envelope.value.data() == scratch_.header.data();
    if (record.problem.has_value() || isDecoded) return count + 1;
  }
  return records.size();
}

// What becomes of some records, stage by stage (guard/stages/stages.h). The last may have a problem.
void OpenPass::OpenRecords(absl::Span<FetchedRecord> records) {
  const bool endsBadly = !records.empty() && records.back().problem.has_value();
  identify_.Of(records.first(records.size() - (endsBadly ? 1 : 0)));
  PrefetchFirst<TransformFetched, FetchedRecord>(transform_, records);
  for (size_t i = 0; i < records.size(); ++i) {
    const FetchedRecord& record = records[i];
    if (record.problem.has_value()) return Stop(*record.problem);
    const Decision& decision = authorize_.Of(record.view, record.owner);
    if (decision.verdict == Verdict::kStop) return Stop(decision.problem);
    if (!needs_.empty()) continue;  // the next pass writes the batch
    PrefetchAhead<TransformFetched, FetchedRecord>(transform_, records, i);
    const auto problem = transform_.Of(record.view, record.envelope, record.owner, decision);
    if (problem.has_value()) return Stop(*problem);
    observe_.Of(record.view, record.owner, decision);
  }
}

OpenOutcome OpenPass::Run(Bytes records, ByteBuffer& out) {
  scratch_.writer.Begin(header_, out);
  kafka::RecordReader reader(records, header_.count);
  std::vector<FetchedRecord> some(std::min(kMostIdentifiedAtOnce, static_cast<size_t>(std::max(header_.count, 1))));
  size_t count = 0;
  do {
    count = ReadRecords(reader, absl::MakeSpan(some));
    OpenRecords(absl::MakeSpan(some).first(count));
  } while (!stopped() && count > 0);
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
  outcome_.keysUsed = scratch_.keyCache.keysUsed();
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
