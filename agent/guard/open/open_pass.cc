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

namespace {

constexpr std::string_view kTooMuchForRules = "the batch takes the rules too long";
constexpr std::string_view kTooLargeMasked = "with what stands for hidden records, the batch is larger than the limit";

}  // namespace

OpenPass::OpenPass(const OpenTask& task, WorkerScratch& scratch, const kafka::BatchHeader& header, bool emptyMasks)
    : task_(task),
      scratch_(scratch),
      header_(header),
      validate_(scratch.header, header.lastOffsetDelta),
      identify_(task.keysLimit, scratch, needs_),
      authorize_(*task.topic, task.masking),
      transform_(*task.topic, task.topicName, task.batchLimit, emptyMasks, scratch),
      observe_(header, outcome_) {
  if (task.readers != nullptr) {
    select_.emplace(*task.topic, *task.readers, *task.reader, task.now, header, scratch);
  }
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
  if (select_.has_value()) return OpenByRules(records);
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
    if (problem.has_value()) return StopOpening(*problem);
    if (!HasRoom()) return;
    observe_.Of(record.view, record.owner, decision);
    if (task_.isAudited && task_.topic->auditsUsers) NoteForAudit(decision, record.owner, std::nullopt);
  }
}

void OpenPass::NoteForAudit(const Decision& decision, const Owner& owner, std::optional<size_t> entry) {
  if (decision.verdict == Verdict::kPass) guard::NoteForAudit(*task_.topic, owner, entry, outcome_.audit);
}

void OpenPass::OpenByRules(absl::Span<FetchedRecord> records) {
  const bool endsBadly = !records.empty() && records.back().problem.has_value();
  const absl::Span<FetchedRecord> valid = records.first(records.size() - (endsBadly ? 1 : 0));
  identify_.UnmaskKeyIds(valid);
  select_->OfOutside(valid);
  if (select_->isTooMuchWork()) return Stop(RefuseReason::kTooLarge, kTooMuchForRules);
  FindKeysOfReadable(valid);
  select_->OfOwners(valid);
  PrefetchFirst<TransformFetched, FetchedRecord>(transform_, records);
  for (size_t i = 0; i < records.size() && !isAtEnd(); ++i) {
    if (records[i].problem.has_value()) return Stop(*records[i].problem);
    PrefetchAhead<TransformFetched, FetchedRecord>(transform_, records, i);
    OpenIfReadable(records[i], i);
  }
}

// A record that the reader may not have, whosever it is, gets no owner. Its key is not fetched, and if there is none,
// that stops nobody.
void OpenPass::FindKeysOfReadable(absl::Span<FetchedRecord> records) {
  const auto isDenied = [&](size_t i) { return select_->answer(i) == SelectFetched::Answer::kDenied; };
  size_t begin = 0;
  for (size_t i = 0; i <= records.size(); ++i) {
    if (i < records.size() && !isDenied(i)) continue;
    if (i < records.size()) records[i].owner = Owner();
    if (i > begin) identify_.FindKeys(records.subspan(begin, i - begin));
    begin = i + 1;
  }
}

void OpenPass::OpenIfReadable(const FetchedRecord& record, size_t index) {
  if (select_->answer(index) == SelectFetched::Answer::kDenied) return LeaveOut(record);
  const bool dependsOnValue = select_->answer(index) == SelectFetched::Answer::kDependsOnValue;
  const Decision& decision = authorize_.Of(record.view, record.owner);
  if (decision.verdict == Verdict::kStop) return Stop(decision.problem);
  if (!needs_.empty()) return;  // the next pass writes the batch
  // Of a value that nobody sees, it is not known whether it fits.
  if (dependsOnValue && decision.verdict != Verdict::kPass) return LeaveOut(record);
  const kafka::BatchWriter::Mark mark = scratch_.writer.mark();
  const auto problem = transform_.Of(record.view, record.envelope, record.owner, decision);
  if (problem.has_value()) return StopOpening(*problem);
  const bool fits = !dependsOnValue || FitsOpened(record, index);
  if (select_->isTooMuchWork()) return Stop(RefuseReason::kTooLarge, kTooMuchForRules);
  if (!fits) {
    const size_t opened = transform_.size();
    scratch_.writer.Rewind(mark);
    LeaveOut(record);
    scratch_.takenBack += opened - std::min(opened, transform_.size());
    return;
  }
  if (!HasRoom()) return;
  observe_.Of(record.view, record.owner, decision);
  if (task_.isAudited) NoteForAudit(decision, record.owner, select_->EntryOf(index));
}

// A record without an envelope is as it came: its value is copied to where there is room behind it.
bool OpenPass::FitsOpened(const FetchedRecord& record, size_t index) {
  if (record.envelope.isThere) return select_->FitsValue(index, transform_.opened());
  const Bytes value = *record.view.value;
  scratch_.value.assign(value.begin(), value.end());
  scratch_.value.reserve(value.size() + kafka::kTailPadding);
  return select_->FitsValue(index, scratch_.value);
}

void OpenPass::LeaveOut(const FetchedRecord& record) {
  if (EndsBefore(record)) {
    if (record.owner.state == Owner::State::kPending) return;  // the next pass knows whether it is an erased user's
    outcome_.deniedFrom = OffsetOf(header_, record.view);
    return;
  }
  auto how = DeniedAs::kLeftOut;
  if (task_.masking.denied) how = DeniedAs::kMasked;
  if (task_.masking.denied && needs_.empty() && transform_.OfDenied(record.view, record.envelope)) {
    how = DeniedAs::kUnchanged;
  }
  if (!HasRoom()) return;
  observe_.OfDenied(record.view, how);
}

// Whether the reader is to get an error in place of the record. What is before the place that it asked from, its client
// throws away. What nobody gets, whatever the rules say, is no reason to stop either.
bool OpenPass::EndsBefore(const FetchedRecord& record) const {
  if (!endsAtDenied() || OffsetOf(header_, record.view) < task_.fetchOffset) return false;
  const bool isClear = record.view.value.has_value() && !record.envelope.isThere;
  const bool isForNobody = record.owner.state == Owner::State::kErased ||
                           (isClear && task_.topic->plaintext == policy::PlaintextRule::kDrop);
  return !isForNobody;
}

OpenOutcome OpenPass::Run(Bytes records, ByteBuffer& out) {
  if (select_.has_value() && !select_->IsReady(needs_)) {
    outcome_.kind = OpenOutcome::Kind::kNeeds;
    outcome_.needs = std::move(needs_);
    return std::move(outcome_);
  }
  scratch_.writer.Begin(header_, out);
  scratch_.takenBack = 0;
  kafka::RecordReader reader(records, header_.count);
  // Where the batch may end at a record, nothing is asked for what is behind it.
  const size_t atOnce = endsAtDenied() ? 1 : kMostIdentifiedAtOnce;
  std::vector<FetchedRecord> some(std::min(atOnce, static_cast<size_t>(std::max(header_.count, 1))));
  size_t count = 0;
  do {
    count = ReadRecords(reader, absl::MakeSpan(some));
    OpenRecords(absl::MakeSpan(some).first(count));
  } while (!isAtEnd() && count > 0);
  if (!isAtEnd() && !reader.status().ok()) Stop(RefuseReason::kMalformed, ToStd(reader.status().message()));
  scratch_.decompressedBytes = std::max(scratch_.decompressedBytes, scratch_.writer.size() + scratch_.takenBack);
  // Records before it may still need keys.
  if (outcome_.deniedFrom.has_value() && needs_.empty() && !observe_.ShowsFrom(task_.fetchOffset)) {
    Stop(RefuseReason::kDenied, kMayNotRead);
  }
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
  if (outcome_.deniedFrom.has_value()) {
    const uint64_t delta = static_cast<uint64_t>(*outcome_.deniedFrom) - static_cast<uint64_t>(header_.baseOffset);
    scratch_.writer.EndAt(std::max(static_cast<int32_t>(delta), 1) - 1);
  } else if (observe_.ChangesNothing()) {
    return scratch_.writer.Abandon();
  }
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

// What came without compression may be larger than the limit, which is one for what is decompressed.
bool OpenPass::HasRoom() {
  if (!transform_.outgrowsByMasks(std::max(task_.batchLimit, header_.size()))) return true;
  isTooLarge_ = true;
  Stop(RefuseReason::kTooLarge, kTooLargeMasked);
  return false;
}

void OpenPass::StopOpening(const Problem& problem) {
  isTooLarge_ = problem.reason == RefuseReason::kTooLarge;
  Stop(problem);
}

void OpenPass::Stop(RefuseReason reason, std::string_view problem) {
  outcome_.kind = OpenOutcome::Kind::kStop;
  outcome_.reason = reason;
  outcome_.problem = std::string(problem);
}

}  // namespace kveil::guard
