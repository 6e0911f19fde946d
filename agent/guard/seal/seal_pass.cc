#include "guard/seal/seal_pass.h"

#include <utility>

#include "base/text.h"
#include "kafka/batch_writer.h"

namespace kveil::guard {
namespace {

// A response lists no more bad records than this; the batch fails as a whole anyway.
constexpr size_t kMaxListedRecords = 100;

}  // namespace

SealPass::SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, bool compressValues)
    : scratch_(scratch),
      part_(part),
      salt_(crypto::RandomSalt()),
      identify_(*task.topic->seal, task.cluster, task.topicName, salt_, scratch, needs_),
      transform_(*task.topic->seal, task.topicName, salt_, compressValues, scratch),
      observe_(outcome_) {}

// What becomes of one record, stage by stage (guard/stages/stages.h). There is nothing to authorize yet.
void SealPass::SealRecord(const kafka::RecordView& record, int32_t index) {
  const Owner* owner = nullptr;
  if (const auto problem = validate_.Of(record)) return Refuse(index, *problem);
  if (const auto problem = identify_.Of(record, owner)) return Refuse(index, *problem);
  if (refusal_.has_value() || !needs_.empty()) return;  // nothing of this batch is kept
  transform_.Of(record, *owner, index);
  observe_.Of(*owner);
}

SealOutcome SealPass::Run(ByteBuffer& out) {
  scratch_.writer.Begin(part_.header, out);
  kafka::RecordReader reader(part_.records, part_.header.count);
  kafka::RecordView record;
  int32_t index = 0;
  while (reader.Next(record)) {
    SealRecord(record, index);
    ++index;
  }
  if (!reader.status().ok()) {
    refusal_ = guard::Refuse(kafka::ErrorCode::kInvalidRecord, observe::RefuseReason::kMalformed,
                             std::string(reader.status().message()), part_.header.count);
  }
  return TakeOutcome();
}

void SealPass::Refuse(int32_t index, const Problem& problem) {
  if (!refusal_.has_value()) {
    refusal_ = guard::Refuse(kafka::ErrorCode::kInvalidRecord, problem.reason, StrCat("kveil: ", problem.message),
                             static_cast<uint64_t>(part_.header.count));
  }
  if (refusal_->records.size() >= kMaxListedRecords) return;
  Refusal::Record& record = refusal_->records.emplace_back();
  record.index = index;
  record.message = problem.message;
}

SealOutcome SealPass::TakeOutcome() {
  outcome_.keysUsed = identify_.keysUsed();
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
