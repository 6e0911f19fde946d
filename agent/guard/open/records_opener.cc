#include "guard/open/records_opener.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "guard/stages/audit.h"
#include "guard/state/count_refused.h"
#include "guard/worker/fetch_needs.h"

namespace kveil::guard {
namespace {

// Bytes that a batch may have when what it is part of may become larger by `room`.
size_t RoomFor(const kafka::BatchView& batch, int64_t room) {
  return static_cast<size_t>(std::max<int64_t>(0, static_cast<int64_t>(batch.whole.size()) + room));
}

// Bytes of a batch up to its format (magic): its offset, its size, and nothing of its records in any format.
constexpr size_t kSaysSize = 17;

// A connection does not say more often that its workload reads.
constexpr std::chrono::minutes kNoteReadEvery{1};

}  // namespace

io::Task<RecordsOpener::Result> RecordsOpener::Open(Partition partition, Response& response, proxy::Arena& arena) {
  co_await turn_.Pause();  // of partitions without a whole batch, a response may have very many
  const Bytes original = partition.records;
  Progress progress;
  kafka::BatchReader reader(original);
  kafka::BatchView batch;
  Result result;
  size_t hint = 0;
  for (;;) {
    const kafka::BatchReader::Result next = reader.Next(batch);
    if (next == kafka::BatchReader::Result::kEnd) break;
    if (next == kafka::BatchReader::Result::kPartial) {
      // It can be neither opened nor judged, so its records stay here: clients throw them away. One that is alone keeps
      // what tells its size, by which a client knows to ask for more bytes.
      if (progress.taken == 0) hint = std::min(original.size(), kSaysSize);
      break;
    }
    OpenOutcome outcome;
    if (next == kafka::BatchReader::Result::kMalformed) {
      outcome.kind = OpenOutcome::Kind::kStop;
      outcome.reason = observe::RefuseReason::kMalformed;
      outcome.problem = std::string(reader.status().message());
      ReportStop(partition, partition.fetchOffset, outcome);
      result.stop = outcome.reason;
      break;
    }
    result.endedEarly = response.worked > response.workLimit;
    if (result.endedEarly) break;
    co_await turn_.Pause();
    if (progress.opened == nullptr) progress.opened = &arena.NewBuffer(original.size());
    OpenTask task;
    task.topic = partition.topic;
    task.topicName = partition.topicName;
    task.fetchOffset = partition.fetchOffset;
    task.masking = partition.masking;
    task.readers = partition.readers;
    task.reader = &connection_.workload;
    task.isAudited = scratch_.audit != nullptr && (partition.readers != nullptr || partition.topic->auditsUsers);
    task.zstdAllowed = response.zstdAllowed;
    task.uncompressedRoom = RoomFor(batch, std::min(partition.room, response.room));
    task.batchLimit = shared_.limits.batchSize;
    const size_t before = progress.rewriting ? progress.opened->size() : 0;
    if (!progress.rewriting) progress.opened->clear();
    auto opening = OpenWithNeeds(task, batch, response.keyDeadline, *progress.opened);
    outcome = co_await std::move(opening);
    response.worked += std::max(scratch_.decompressedBytes, batch.whole.size());
    // A share group's response is not ended for it: each record that is not given would count as a try.
    if (response.mayEndEarly) response.worked += scratch_.ruleWork;
    arena.CountGrowth();
    if (outcome.kind == OpenOutcome::Kind::kStop) {
      ReportStop(partition, batch.header.baseOffset, outcome);
      result.stop = outcome.reason;
      result.missing = std::move(outcome.needs);
      break;
    }
    result.endedEarly = !Take(batch, outcome, original, before, partition, response, progress);
    if (result.endedEarly) break;
    Count(partition.masking, outcome);
    TellAudit(partition, outcome);
    if (outcome.deniedFrom.has_value()) {
      progress.nextOffset = *outcome.deniedFrom;
      result.stop = observe::RefuseReason::kDenied;
      break;
    }
  }
  if (result.stop.has_value() || result.endedEarly) result.endOffset = progress.nextOffset;
  result.records = progress.rewriting ? Bytes(*progress.opened) : original.first(progress.unchanged + hint);
  result.changed = progress.rewriting || result.records.size() < original.size();
  if (progress.opened != nullptr && !progress.rewriting) arena.DropNewest();
  if (result.changed) response.room += static_cast<int64_t>(original.size() - progress.taken - hint);
  co_return result;
}

bool RecordsOpener::Take(const kafka::BatchView& batch, const OpenOutcome& outcome, Bytes original, size_t sizeBefore,
                         Partition& partition, Response& response, Progress& progress) {
  ByteBuffer& opened = *progress.opened;
  const bool rewritten = outcome.kind == OpenOutcome::Kind::kRewritten;
  const size_t size = rewritten ? opened.size() - sizeBefore : batch.whole.size();
  const int64_t growth = static_cast<int64_t>(size) - static_cast<int64_t>(batch.whole.size());
  // The first batch of a response is always given, as a broker gives it (KIP-74): nothing could be read otherwise.
  // Nor may what others get keep a partition from ever being read.
  const bool isFirst = progress.taken == 0 && (!response.delivered || partition.isOverdue);
  // What is behind this batch may still be left out, so that it makes room for this one.
  const int64_t behind = static_cast<int64_t>(original.size() - progress.taken - batch.whole.size());
  if (growth > std::min(partition.room, response.room) + behind && response.mayEndEarly && !isFirst) {
    opened.resize(sizeBefore);
    return false;
  }
  partition.room -= growth;
  response.room -= growth;
  progress.taken += batch.whole.size();
  progress.nextOffset = batch.header.lastOffset() + 1;
  if (rewritten) {
    if (!progress.rewriting && progress.unchanged > 0) {
      opened.insert(opened.begin(), original.begin(), original.begin() + static_cast<ptrdiff_t>(progress.unchanged));
    }
    progress.rewriting = true;
  } else if (progress.rewriting) {
    Append(opened, batch.whole);
  } else {
    progress.unchanged += batch.whole.size();
  }
  return true;
}

// A consent that ends while a key is waited for is none any more.
io::Task<OpenOutcome> RecordsOpener::OpenWithNeeds(OpenTask& task, const kafka::BatchView& batch,
                                                   std::chrono::steady_clock::time_point deadline, ByteBuffer& out) {
  task.now = std::chrono::system_clock::now();
  OpenOutcome outcome = OpenBatch(task, batch, scratch_, out);
  shared_.metrics.KeyCacheMisses(outcome.needs.keys.ids.size());
  while (outcome.kind == OpenOutcome::Kind::kNeeds) {
    if (std::chrono::steady_clock::now() > deadline) {
      const Problem problem = outcome.needs.NotToBeHad();
      outcome.kind = OpenOutcome::Kind::kStop;
      outcome.reason = problem.reason;
      outcome.problem = std::string(problem.message);
      break;
    }
    auto fetching = FetchNeeds(loop_, scratch_, connection_.workload, std::move(outcome.needs), deadline);
    (void)co_await std::move(fetching);  // what could not be had is missing again
    co_await turn_.Pause();              // where nothing had to be fetched
    task.now = std::chrono::system_clock::now();
    outcome = OpenBatch(task, batch, scratch_, out);
  }
  co_return outcome;
}

void RecordsOpener::Count(const Masking& masking, const OpenOutcome& outcome) {
  const auto hidden = [this](bool masked, observe::DropReason reason, uint64_t count) {
    if (masked) {
      shared_.metrics.RecordsMasked(reason, count);
    } else {
      shared_.metrics.RecordsDropped(reason, count);
    }
  };
  connection_.tally->records.opened += outcome.opened;
  connection_.tally->records.denied += outcome.denied;
  if (outcome.opened > 0) {
    NoteRead();
    shared_.metrics.RecordsOpened(outcome.opened);
    shared_.metrics.KeyCacheHits(outcome.keysUsed);
  }
  hidden(masking.denied && !outcome.deniedDropped, observe::DropReason::kDenied, outcome.denied);
  hidden(masking.erased, observe::DropReason::kErased, outcome.erased);
  if (outcome.plaintextDropped) {
    hidden(masking.plaintext, observe::DropReason::kPlaintext, outcome.plaintext);
  } else {
    shared_.metrics.RecordsPassedPlain(outcome.plaintext);
  }
}

void RecordsOpener::TellAudit(const Partition& partition, OpenOutcome& outcome) {
  const Audited audited{.workload = connection_.workload,
                        .cluster = connection_.cluster,
                        .topic = partition.topicName,
                        .policy = partition.topic,
                        .access = audit::Access::kRead,
                        .entry = partition.entry};
  guard::TellAudit(
      scratch_, audited,
      {.records = outcome.opened, .leftOut = outcome.denied, .erased = outcome.erased, .plaintext = outcome.plaintext},
      outcome.audit);
}

void RecordsOpener::NoteRead() {
  const auto now = UnselectedWrites::Clock::now();
  if (notedRead_ != UnselectedWrites::Clock::time_point() && now - notedRead_ < kNoteReadEvery) return;
  notedRead_ = now;
  shared_.unselectedWrites.NoteRead(connection_.workload.share, now);
}

void RecordsOpener::ReportStop(const Partition& partition, int64_t offset, const OpenOutcome& outcome) {
  CountRefused(shared_.metrics, connection_, outcome.reason, 1);
  if (outcome.reason == observe::RefuseReason::kDenied) return;  // the policy has it so
  log::Error("fetch.stopped", {{"connection", connection_.id},
                               {"share", connection_.workload.share},
                               {"topic", partition.topicName},
                               {"partition", partition.index},
                               {"batchOffset", offset},
                               {"reason", outcome.problem}});
}

}  // namespace kveil::guard
