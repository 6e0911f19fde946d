// Fetch: opens what the reader may see, leaves out what was erased, denies what no rule allows, and stops before what
// can neither be opened nor left out.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "guard/apis/api_guard.h"
#include "guard/apis/fetch_opener.h"
#include "guard/apis/fetch_session.h"
#include "guard/learn/topic_lookup.h"
#include "kafka/messages/fetch.h"

namespace kveil::guard {

class FetchGuard : public ApiGuard<kafka::FetchRequest> {
 public:
  explicit FetchGuard(const GuardContext& context)
      : ApiGuard(context),
        scratch_(context.scratch),
        opener_(context),
        lookup_(context.shared.topicNames, context.connection) {}

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  struct State;

  io::Task<absl::StatusOr<bool>> TakeIn(kafka::FetchRequest& request, proxy::Upstream& upstream,
                                        proxy::MemoryBudget& budget, State& state);
  bool GoOn(kafka::FetchRequest& request, State& state);
  proxy::RequestVerdict TakeReplicas(const proxy::RequestFrame& request, kafka::FetchRequest& decoded,
                                     proxy::FrameOutput& output);
  void NoteNotKept();

  WorkerScratch& scratch_;
  FetchOpener opener_;
  TopicLookup lookup_;
  std::shared_ptr<FetchSession> session_;
  int32_t replicaSession_ = 0;  // the broker's name for the session of a replica on this connection
  bool saidNotKept_ = false;
};

}  // namespace kveil::guard
