// Fetch: opens what the reader may see, leaves out what was erased, denies what no rule allows, and stops before what
// can neither be opened nor left out.
#pragma once

#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "guard/apis/fetch_session.h"
#include "guard/apis/guarded_apis.h"
#include "guard/client/client_facts.h"
#include "guard/learn/topic_lookup.h"
#include "guard/open/records_opener.h"
#include "guard/refuse/denial_log.h"
#include "guard/state/shared_state.h"
#include "io/turn.h"
#include "kafka/messages/fetch.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class FetchGuard : public proxy::Interceptor {
 public:
  FetchGuard(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection,
             std::shared_ptr<ClientFacts> client)
      : shared_(shared),
        loop_(loop),
        connection_(connection),
        client_(std::move(client)),
        opener_(shared, scratch, loop, connection),
        lookup_(shared.topicNames, connection),
        denials_(connection) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kFetch); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  struct State;
  // A topic of a response that has a policy, and one of its partitions with records.
  struct Topic {
    size_t hash = 0;  // of how the message names it
    std::string name;
    const policy::TopicPolicy* policy = nullptr;
  };
  struct Readable {
    const Topic* topic = nullptr;
    kafka::FetchResponse::Partition* partition = nullptr;
    std::optional<FetchPositions::Asked> asked;  // where it is known
  };
  // What has been done to a response so far.
  struct Progress {
    explicit Progress(proxy::MemoryBudget& budget) : budget(budget) {}
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress() { budget.ReleaseOwed(counted); }

    Topic& Add(const TopicKey& key, std::string_view name, const policy::TopicPolicy* policy);
    // A response of a few bytes a partition comes to more than itself.
    void Count(size_t more) {
      budget.AcquireOwedAnyway(more);
      counted += more;
    }

    bool changed = false;
    bool stopped = false;  // some partition has none although the broker sent some
    RecordsOpener::Response response;
    std::deque<Topic> topics;  // a deque, as partitions point at them
    std::deque<Readable> readable;
    size_t bytes = 0;               // of their records
    std::optional<size_t> overdue;  // the one of them that has waited for longest
    uint64_t overdueSince = std::numeric_limits<uint64_t>::max();
    proxy::MemoryBudget& budget;
    size_t counted = 0;  // towards it
  };

  io::Task<absl::StatusOr<bool>> TakeIn(kafka::FetchRequest& request, proxy::Upstream& upstream,
                                        proxy::MemoryBudget& budget, State& state);
  bool GoOn(kafka::FetchRequest& request, State& state);
  proxy::RequestVerdict TakeReplicas(const proxy::RequestFrame& request, kafka::FetchRequest& decoded,
                                     proxy::FrameOutput& output);
  void NoteNotKept();
  bool LowerBounds(kafka::FetchRequest& request, int16_t version) const;
  io::Task<void> CheckTopic(kafka::FetchResponse::Topic& topic, const State& state, const policy::Policy& policies,
                            io::Turn& turn, Progress& progress);
  void Add(const Topic& topic, kafka::FetchResponse::Partition& partition, const FetchPositions::Partitions* asked,
           Progress& progress) const;
  static size_t HashOf(const Readable& readable);
  void NoteStarved(const Readable& readable, bool isStarved);
  io::Task<void> OpenReadable(const State& state, size_t frameSize, proxy::Arena& arena, Progress& progress);
  io::Task<void> OpenPartition(const Readable& readable, bool isOverdue, proxy::Arena& arena, Progress& progress);

  SharedState& shared_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  const std::shared_ptr<ClientFacts> client_;
  RecordsOpener opener_;
  TopicLookup lookup_;
  std::shared_ptr<FetchSession> session_;
  int32_t replicaSession_ = 0;  // the broker's name for the session of a replica on this connection
  bool saidNotKept_ = false;
  DenialLog denials_;
  // Partitions (hashes of them) whose records did not fit into a response at all, in the order in which that happened.
  // Of those in a response, the one that has waited for longest comes first. The responses between may be of others.
  absl::flat_hash_map<size_t, uint64_t> starved_;
  uint64_t starvedCount_ = 0;
};

}  // namespace kveil::guard
