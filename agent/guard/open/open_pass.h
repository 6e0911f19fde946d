// One pass over the records of a fetched batch, which makes of each what the reader may see.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "guard/open/open_task.h"
#include "guard/stages/stages.h"
#include "guard/worker/needs.h"
#include "guard/worker/problem.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/record_batch.h"

namespace kveil::guard {

// All that is passed outlives it.
class OpenPass {
 public:
  // `emptyMasks`: of masked records, none has a value.
  OpenPass(const OpenTask& task, WorkerScratch& scratch, const kafka::BatchHeader& header, bool emptyMasks);
  OpenPass(const OpenPass&) = delete;
  OpenPass& operator=(const OpenPass&) = delete;
  ~OpenPass() { scratch_.keyCache.EndPass(); }

  // Appends the new batch to `out`, if there is one. Once. `records`: the batch's, not compressed.
  OpenOutcome Run(Bytes records, ByteBuffer& out);
  // After a stop: the batch has become too large, and would be smaller with empty masks.
  bool mayFitWithEmptyMasks() const { return isTooLarge_ && transform_.hasMaskValues(); }

 private:
  // Reads and validates the next ones; those that the first problem is in the way of are left out.
  size_t ReadRecords(kafka::RecordReader& reader, absl::Span<FetchedRecord> records);
  void OpenRecords(absl::Span<FetchedRecord> records);
  // The same where the reader may have some records only.
  void OpenByRules(absl::Span<FetchedRecord> records);
  void FindKeysOfReadable(absl::Span<FetchedRecord> records);
  void OpenIfReadable(const FetchedRecord& record, size_t index);
  bool FitsOpened(const FetchedRecord& record, size_t index);
  void LeaveOut(const FetchedRecord& record);
  bool EndsBefore(const FetchedRecord& record) const;
  void NoteForAudit(const Decision& decision, const Owner& owner, std::optional<size_t> entry);
  void Stop(observe::RefuseReason reason, std::string_view problem);
  void Stop(const Problem& problem) { Stop(problem.reason, problem.message); }
  void StopOpening(const Problem& problem);
  // Of what was written last. Returns false after a stop.
  bool HasRoom();
  // Of a pass that wrote all records, up to the end.
  void FinishBatch(ByteBuffer& out);
  kafka::Codec CodecOfResult() const;
  // Whether a reader who may have some records only gets an error in place of one that it may not have.
  bool endsAtDenied() const { return select_.has_value() && task_.topic->onDenied == policy::OnHidden::kError; }
  bool stopped() const { return outcome_.kind == OpenOutcome::Kind::kStop; }
  bool isAtEnd() const { return stopped() || outcome_.deniedFrom.has_value(); }

  const OpenTask& task_;
  WorkerScratch& scratch_;
  const kafka::BatchHeader& header_;
  OpenOutcome outcome_;
  bool isTooLarge_ = false;  // what would be written
  Needs needs_;
  ValidateFetched validate_;
  IdentifyFetched identify_;
  std::optional<SelectFetched> select_;  // where there are rules for the reader
  AuthorizeFetched authorize_;
  TransformFetched transform_;
  ObserveFetched observe_;
};

}  // namespace kveil::guard
