#include "guard/seal/seal_pass.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/text.h"
#include "kafka/batch_writer.h"

namespace kveil::guard {
namespace {

// A response lists no more bad records than this; the batch fails as a whole anyway.
constexpr size_t kMaxListedRecords = 100;

}  // namespace

SealPass::SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part,
                   policy::CompressValues compress)
    : task_(task),
      scratch_(scratch),
      part_(part),
      marks_{.salt = crypto::RandomSalt(), .period = scratch.keyCache.CurrentPeriod()},
      identify_(*task.topic->seal, task.cluster, task.topicName, marks_, scratch, needs_),
      transform_(*task.topic->seal, task.topicName, marks_, compress, scratch),
      observe_(outcome_) {
  if (task.writers != nullptr) {
    select_.emplace(*task.topic, *task.writers, *task.writer, task.now, scratch);
  }
  scratch.keyCache.BeginPass();
}

// What becomes of some records, stage by stage (guard/stages/stages.h).
void SealPass::SealRecords(absl::Span<ProducedRecord> records) {
  int32_t place = done_;
  for (ProducedRecord& record : records) record.problem = validate_.Of(record.view, place++);
  identify_.Of(records);
  if (select_.has_value()) select_->Of(records);
  PrefetchFirst<TransformProduced, ProducedRecord>(transform_, records);
  for (size_t i = 0; i < records.size(); ++i) {
    const ProducedRecord& record = records[i];
    const int32_t index = done_++;
    if (record.problem.has_value()) Refuse(index, *record.problem);
    if (refusal_.has_value() || !needs_.empty()) continue;  // nothing of this batch is kept
    PrefetchAhead<TransformProduced, ProducedRecord>(transform_, records, i);
    transform_.Of(record.view, record.owner, index);
    observe_.Of(record.owner);
    if (!task_.isAudited) continue;
    NoteForAudit(*task_.topic, record.owner, select_.has_value() ? select_->EntryOf(i) : std::nullopt, outcome_.audit);
  }
}

SealOutcome SealPass::Run(ByteBuffer& out) {
  scratch_.writer.Begin(part_.header, out);
  kafka::RecordReader reader(part_.records, part_.header.count);
  std::vector<ProducedRecord> records(
      std::min(kMostIdentifiedAtOnce, static_cast<size_t>(std::max(part_.header.count, 1))));
  size_t count = 0;
  do {
    for (count = 0; count < records.size() && reader.Next(records[count].view); ++count) continue;
    SealRecords(absl::MakeSpan(records).first(count));
    if (select_.has_value() && select_->isTooMuchWork()) {
      // Clients that can (the Java client) send such a batch again in smaller ones.
      refusal_ = guard::Refuse(kafka::ErrorCode::kMessageTooLarge, observe::RefuseReason::kTooLarge,
                               "kveil: the batch takes the rules too long", static_cast<uint64_t>(part_.header.count));
      break;
    }
  } while (count == records.size());
  if (!reader.status().ok()) {
    refusal_ = RefuseInvalid(observe::RefuseReason::kMalformed, std::string(reader.status().message()),
                             static_cast<uint64_t>(part_.header.count));
  }
  return TakeOutcome();
}

void SealPass::Refuse(int32_t index, const Problem& problem) {
  if (!refusal_.has_value()) {
    refusal_ =
        RefuseInvalid(problem.reason, StrCat("kveil: ", problem.message), static_cast<uint64_t>(part_.header.count));
  }
  if (refusal_->records.size() >= kMaxListedRecords) return;
  Refusal::Record& record = refusal_->records.emplace_back();
  record.index = index;
  record.message = problem.message;
}

SealOutcome SealPass::TakeOutcome() {
  outcome_.keysUsed = scratch_.keyCache.keysUsed();
  if (refusal_.has_value()) {
    outcome_.kind = SealOutcome::Kind::kRefused;
    outcome_.refusal = *std::move(refusal_);
  } else if (!needs_.empty()) {
    outcome_.kind = SealOutcome::Kind::kNeeds;
    outcome_.needs = std::move(needs_);
  }
  return std::move(outcome_);
}

}  // namespace kveil::guard
