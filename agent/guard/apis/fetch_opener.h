// What a reader gets of a Fetch response: opened records, or an error in their place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "guard/apis/fetch_session.h"
#include "guard/apis/guard_context.h"
#include "guard/apis/reading.h"
#include "guard/open/records_opener.h"
#include "guard/refuse/denial_log.h"
#include "io/turn.h"
#include "kafka/messages/fetch.h"

namespace kveil::guard {

// One per connection.
class FetchOpener {
 public:
  explicit FetchOpener(const GuardContext& context);

  // What a response may hold, as its request said, and whose it is.
  struct Terms {
    std::shared_ptr<const identity::Claims> claims;
    int64_t maxBytes = RecordsOpener::kNoBound;  // of the records of all partitions
    bool recordsHaveHeaders = true;
    bool zstdAllowed = true;
  };
  struct Outcome {
    bool changed = false;  // the response is not what the broker sent
    // The broker sent records, the reader gets nothing, and would ask again at once.
    bool isHeldBack = false;
  };

  // Changes `response`, whose frame has `frameSize` bytes, to what the reader may see. `session` says what was asked
  // for. What the response then refers to lives as long as `arena`. An error: a topic whose name no broker can have.
  io::Task<absl::StatusOr<Outcome>> Open(kafka::FetchResponse& response, size_t frameSize, const Terms& terms,
                                         const FetchSession& session, proxy::Arena& arena);

 private:
  struct Topic;
  struct Readable;
  struct Progress;

  io::Task<void> CheckTopic(kafka::FetchResponse::Topic& topic, const FetchSession& session,
                            const policy::Policy& policies, io::Turn& turn, Progress& progress);
  ReadAccess AccessTo(const kafka::FetchResponse::Topic& topic, const policy::Policy& policies, const Terms& terms);
  void CheckPartition(const ReadAccess& access, kafka::FetchResponse::Partition& partition, Progress& progress) const;
  void Add(const Topic& topic, kafka::FetchResponse::Partition& partition, const FetchPositions::Partitions* asked,
           Progress& progress) const;
  io::Task<void> OpenReadable(size_t frameSize, proxy::Arena& arena, Progress& progress);
  void AnswerWithError(const Readable& readable, Progress& progress);
  io::Task<void> OpenPartition(const Readable& readable, bool isOverdue, proxy::Arena& arena, Progress& progress);
  void NoteStarved(const Readable& readable, bool isStarved);

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  const std::shared_ptr<ClientFacts> client_;
  RecordsOpener opener_;
  DenialLog denials_;
  // Partitions (hashes of them) whose records did not fit into a response at all, in the order in which that happened.
  // Of those in a response, the one that has waited longest comes first. The responses in between may be of others.
  absl::flat_hash_map<size_t, uint64_t> starved_;
  uint64_t starvedCount_ = 0;
};

}  // namespace kveil::guard
