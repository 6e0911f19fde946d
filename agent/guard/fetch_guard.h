// Fetch: opens what the reader may see, leaves out what was erased, denies what no rule allows, and stops before what
// can neither be opened nor left out.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "guard/client_facts.h"
#include "guard/denial_log.h"
#include "guard/fetch_positions.h"
#include "guard/guarded_apis.h"
#include "guard/records_opener.h"
#include "guard/shared_state.h"
#include "guard/topic_lookup.h"
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
        lookup_(shared.topicNames, connection.cluster),
        denials_(connection) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kFetch); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  // The topics that one request, or the requests of one session, asked for.
  struct Session {
    int32_t id = 0;  // 0 until the broker's answer names it
    // It was begun on another connection, so its topics are not known: everything it answers is looked at.
    bool isForeign = false;
    FetchPositions positions;
    // Whether any of them may be protected, worked out for these topics and this generation of the policies.
    bool needsGuard = true;
    bool topicsChanged = true;  // since then
    uint64_t policyGeneration = 0;
    bool hasUnknown = false;  // a topic id that nobody could name yet
  };
  struct State;
  // What has been done to a response so far.
  struct Progress {
    bool changed = false;
    bool stopped = false;  // some partition has none although the broker sent some
    RecordsOpener::Response response;
  };

  std::shared_ptr<Session> SessionFor(const kafka::FetchRequest& request);
  bool NeedsGuard(Session& session);
  io::Task<void> GuardTopic(kafka::FetchResponse::Topic& topic, const State& state, const policy::Policy& policies,
                            proxy::Arena& arena, Progress& progress);
  io::Task<void> OpenPartition(const policy::TopicPolicy& topicPolicy, std::string_view topicName, int64_t fetchOffset,
                               kafka::FetchResponse::Partition& partition, proxy::Arena& arena, Progress& progress);

  SharedState& shared_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  const std::shared_ptr<ClientFacts> client_;
  RecordsOpener opener_;
  TopicLookup lookup_;
  std::shared_ptr<Session> session_;
  DenialLog denials_;
};

}  // namespace kveil::guard
