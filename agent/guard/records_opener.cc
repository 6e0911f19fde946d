#include "guard/records_opener.h"

#include <utility>

#include "base/log.h"
#include "guard/key_wait.h"

namespace kveil::guard {
namespace {

// Above this much opened data a response keeps its codec, so that what the reader gets stays below the frame limits of
// clients (librdkafka: 100 MB).
constexpr size_t kUncompressedLimit = 32 << 20;

// A connection does not say more often that its workload reads.
constexpr std::chrono::minutes kNoteReadEvery{1};

}  // namespace

io::Task<RecordsOpener::Result> RecordsOpener::Open(const Partition& partition, Response& response,
                                                    proxy::Arena& arena) {
  const Bytes original = partition.records;
  ByteBuffer& opened = arena.NewBuffer();
  kafka::BatchReader reader(original);
  kafka::BatchView batch;
  size_t unchanged = 0;  // bytes at the start that stay as they are, until the first batch that does not
  bool rewriting = false;
  int64_t nextOffset = 0;  // behind the last batch that was taken
  Result result;
  for (;;) {
    if (response.openedBytes > shared_.limits.openedResponse && (response.delivered || rewriting || unchanged > 0)) {
      result.endOffset = nextOffset;  // the rest is left for the reader's next fetch
      break;
    }
    const kafka::BatchReader::Result next = reader.Next(batch);
    if (next == kafka::BatchReader::Result::kEnd) break;
    if (next == kafka::BatchReader::Result::kPartial) break;  // cut off: clients do the same
    OpenOutcome outcome;
    if (next == kafka::BatchReader::Result::kMalformed) {
      outcome.kind = OpenOutcome::Kind::kStop;
      outcome.reason = observe::RefuseReason::kMalformed;
      outcome.problem = std::string(reader.status().message());
      ReportStop(partition, partition.fetchOffset, outcome);
      result.stop = outcome.reason;
      break;
    }
    OpenTask task;
    task.topic = partition.topic;
    task.topicName = partition.topicName;
    task.fetchOffset = partition.fetchOffset;
    task.masking = partition.masking;
    task.keepCodec = response.openedBytes > kUncompressedLimit &&
                     (response.zstdAllowed || batch.header.codec() != kafka::Codec::kZstd);
    task.batchLimit = shared_.limits.batchSize;
    task.usersLimit = shared_.limits.batchUsers;
    const size_t before = opened.size();
    if (!rewriting) opened.clear();
    auto opening = OpenWithKeys(task, batch, response.keyDeadline, opened);
    outcome = co_await std::move(opening);
    if (outcome.kind == OpenOutcome::Kind::kStop) {
      ReportStop(partition, batch.header.baseOffset, outcome);
      result.stop = outcome.reason;
      result.missing = std::move(outcome.misses);
      break;
    }
    nextOffset = batch.header.lastOffset() + 1;
    Count(partition.masking, outcome);
    if (outcome.kind == OpenOutcome::Kind::kRewritten) {
      if (!rewriting && unchanged > 0) opened.insert(opened.begin(), original.begin(), original.begin() + unchanged);
      rewriting = true;
      response.openedBytes += opened.size() - before;
    } else if (rewriting) {
      Append(opened, batch.whole);
    } else {
      unchanged += batch.whole.size();
    }
  }
  if (result.stop.has_value()) result.endOffset = nextOffset;
  result.changed = rewriting || result.endOffset.has_value();
  result.records = rewriting ? Bytes(opened) : original.first(unchanged);
  co_return result;
}

io::Task<OpenOutcome> RecordsOpener::OpenWithKeys(const OpenTask& task, const kafka::BatchView& batch,
                                                  std::chrono::steady_clock::time_point deadline, ByteBuffer& out) {
  OpenOutcome outcome = OpenBatch(task, batch, scratch_, out);
  shared_.metrics.KeyCacheMisses(outcome.misses.ids.size());
  while (outcome.kind == OpenOutcome::Kind::kMissingKeys) {
    if (std::chrono::steady_clock::now() > deadline) {
      outcome.kind = OpenOutcome::Kind::kStop;
      outcome.reason = observe::RefuseReason::kKeysUnavailable;
      outcome.problem = "the keys cannot be reached now";
      break;
    }
    auto fetching = FetchKeys(loop_, scratch_.keyCache, scratch_.keyRoom, connection_.workload,
                              std::move(outcome.misses), deadline);
    (void)co_await std::move(fetching);  // what could not be had is missing again
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
  if (outcome.opened > 0) {
    NoteRead();
    shared_.metrics.RecordsOpened(outcome.opened);
    shared_.metrics.KeyCacheHits(outcome.keysUsed);
  }
  hidden(masking.erased, observe::DropReason::kErased, outcome.erased);
  if (outcome.plaintextDropped) {
    hidden(masking.plaintext, observe::DropReason::kPlaintext, outcome.plaintext);
  } else {
    shared_.metrics.RecordsPassedPlain(outcome.plaintext);
  }
}

void RecordsOpener::NoteRead() {
  const auto now = UnselectedWrites::Clock::now();
  if (notedRead_ != UnselectedWrites::Clock::time_point() && now - notedRead_ < kNoteReadEvery) return;
  notedRead_ = now;
  shared_.unselectedWrites.NoteRead(connection_.workload.cgroupPath, now);
}

void RecordsOpener::ReportStop(const Partition& partition, int64_t offset, const OpenOutcome& outcome) {
  shared_.metrics.RecordsRefused(outcome.reason, 1);
  log::Error("fetch.stopped", {{"connection", connection_.id},
                               {"topic", partition.topicName},
                               {"partition", partition.index},
                               {"batchOffset", offset},
                               {"reason", outcome.problem}});
}

}  // namespace kveil::guard
