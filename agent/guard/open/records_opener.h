// Opens the records of one partition in a response: batch after batch, with a wait for keys, up to where it must stop.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "guard/client/client_facts.h"
#include "guard/open/batch_opener.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "io/turn.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class RecordsOpener {
 public:
  RecordsOpener(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared), scratch_(scratch), loop_(loop), connection_(connection), turn_(loop) {}

  // Of sizes in bytes; far from where sums overflow.
  static constexpr int64_t kNoBound = std::numeric_limits<int64_t>::max() / 4;

  // What the partitions of one response share.
  struct Response {
    std::chrono::steady_clock::time_point keyDeadline;
    bool zstdAllowed = true;
    // Whether the rest of a partition may be left for the reader's next request. Otherwise what makes the response too
    // large is given nevertheless.
    bool mayEndEarly = true;
    bool delivered = false;  // some partition has something for the reader
    // Bytes that the response may become larger by; where negative, what it has to become smaller by.
    int64_t room = kNoBound;
    // Bytes of batches, decompressed, that are worked on; and what rules have to look through.
    size_t workLimit = std::numeric_limits<size_t>::max();
    size_t worked = 0;
  };
  struct Partition {
    Bytes records;  // as the broker sent them
    int32_t index = 0;
    int64_t fetchOffset = 0;
    int64_t room = kNoBound;  // as of the response
    bool isOverdue = false;   // the last response it was in had none of its records, for want of room
    std::string_view topicName;
    const policy::TopicPolicy* topic = nullptr;
    Masking masking;
    const policy::EntrySet* readers = nullptr;  // as of an OpenTask
    std::optional<size_t> entry;                // of topic->read that lets the reader have every record
  };
  struct Result {
    Bytes records;         // what the reader may have; lives as long as the arena and the partition's bytes
    bool changed = false;  // these are not the bytes that came
    // Why it stopped before a batch that can neither be opened nor left out; what is before it is in `records`.
    std::optional<observe::RefuseReason> stop;
    Needs missing;  // what it stopped for want of, if it did
    // Set when some of what came is not in `records`: no offset from here on is.
    std::optional<int64_t> endOffset;
    bool endedEarly = false;  // the rest would have been too much for this response
  };

  // A response begins: other connections have had their turn.
  void Begin() { turn_.Begin(); }

  // Counts and logs what it did. Lets other connections go on before, and between batches.
  io::Task<Result> Open(Partition partition, Response& response, proxy::Arena& arena);

 private:
  // What has become of a partition's records so far.
  struct Progress {
    ByteBuffer* opened = nullptr;  // what was rewritten, and what follows it; there from the first whole batch on
    size_t unchanged = 0;          // bytes at the start that stay as they are, until the first batch that does not
    bool rewriting = false;
    size_t taken = 0;        // bytes of the batches that are given, as they came
    int64_t nextOffset = 0;  // behind the last of them
  };

  // Takes a batch in, unless that would be too much; then false.
  static bool Take(const kafka::BatchView& batch, const OpenOutcome& outcome, Bytes original, size_t sizeBefore,
                   Partition& partition, Response& response, Progress& progress);
  io::Task<OpenOutcome> OpenWithNeeds(OpenTask& task, const kafka::BatchView& batch,
                                      std::chrono::steady_clock::time_point deadline, ByteBuffer& out);
  void Count(const Masking& masking, const OpenOutcome& outcome);
  void TellAudit(const Partition& partition, OpenOutcome& outcome);
  void NoteRead();
  void ReportStop(const Partition& partition, int64_t offset, const OpenOutcome& outcome);

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  UnselectedWrites::Clock::time_point notedRead_;
  io::Turn turn_;
};

}  // namespace kveil::guard
