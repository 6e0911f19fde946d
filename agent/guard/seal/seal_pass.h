// One pass over the records of a produced batch, or of a part of one, which seals each for its owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "guard/refuse/refusal.h"
#include "guard/seal/seal_task.h"
#include "guard/stages/stages.h"
#include "guard/worker/needs.h"
#include "guard/worker/problem.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/batch_split.h"

namespace kveil::guard {

// All that is passed outlives it.
class SealPass {
 public:
  SealPass(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, policy::CompressValues compress);
  SealPass(const SealPass&) = delete;
  SealPass& operator=(const SealPass&) = delete;
  ~SealPass() { scratch_.keyCache.EndPass(); }

  // Writes all records to scratch.writer, for the end of `out`; or collects what is wrong with them, or lacking. Once.
  // With kSealed the writer is still to be finished.
  SealOutcome Run(ByteBuffer& out);

 private:
  void SealRecords(absl::Span<ProducedRecord> records);
  void Refuse(int32_t index, const Problem& problem);
  SealOutcome TakeOutcome();

  const SealTask& task_;
  WorkerScratch& scratch_;
  const kafka::BatchPart& part_;
  const BatchMarks marks_;
  int32_t done_ = 0;  // records
  SealOutcome outcome_;
  std::optional<Refusal> refusal_;
  Needs needs_;
  ValidateProduced validate_;
  IdentifyProduced identify_;
  std::optional<SelectProduced> select_;  // where there are rules for the writer
  TransformProduced transform_;
  ObserveProduced observe_;
};

}  // namespace kveil::guard
