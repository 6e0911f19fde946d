// Opens the records of one partition in a response: batch after batch, with a wait for keys, up to where it must stop.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "guard/batch_opener.h"
#include "guard/client_facts.h"
#include "guard/shared_state.h"
#include "guard/worker_scratch.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class RecordsOpener {
 public:
  RecordsOpener(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared), scratch_(scratch), loop_(loop), connection_(connection) {}

  // What the partitions of one response share.
  struct Response {
    std::chrono::steady_clock::time_point keyDeadline;
    bool zstdAllowed = true;
    bool delivered = false;  // some partition has something for the reader
    size_t openedBytes = 0;
  };
  struct Partition {
    Bytes records;  // as the broker sent them
    int32_t index = 0;
    int64_t fetchOffset = 0;
    std::string_view topicName;
    const policy::TopicPolicy* topic = nullptr;
    Masking masking;
  };
  struct Result {
    Bytes records;         // what the reader may have; lives as long as the arena and the partition's bytes
    bool changed = false;  // these are not the bytes that came
    // Why it stopped before a batch that can neither be opened nor left out; what is before it is in `records`.
    std::optional<observe::RefuseReason> stop;
    keys::Misses missing;  // the keys, where it stopped for want of them
    // Set when some of what came is not in `records`: no offset from here on is.
    std::optional<int64_t> endOffset;
  };

  // Counts and logs what it did.
  io::Task<Result> Open(const Partition& partition, Response& response, proxy::Arena& arena);

 private:
  io::Task<OpenOutcome> OpenWithKeys(const OpenTask& task, const kafka::BatchView& batch,
                                     std::chrono::steady_clock::time_point deadline, ByteBuffer& out);
  void Count(const Masking& masking, const OpenOutcome& outcome);
  void NoteRead();
  void ReportStop(const Partition& partition, int64_t offset, const OpenOutcome& outcome);

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  UnselectedWrites::Clock::time_point notedRead_;
};

}  // namespace kveil::guard
