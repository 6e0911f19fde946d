// ShareFetch (KIP-932): opens what the group may read. A record that is left out counts as consumed by the whole group,
// so hidden ones are masked, and of what cannot be opened the client is told that it did not get it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "guard/apis/guarded_apis.h"
#include "guard/apis/share_session.h"
#include "guard/learn/topic_lookup.h"
#include "guard/open/records_opener.h"
#include "guard/refuse/denial_log.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/messages/share_fetch.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ShareGuard : public proxy::Interceptor {
 public:
  ShareGuard(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared),
        scratch_(scratch),
        loop_(loop),
        connection_(connection),
        opener_(shared, scratch, loop, connection),
        lookup_(shared.topicNames, connection),
        denials_(connection),
        session_(connection.workload.share) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kShareFetch); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  struct State;
  // What is known of a topic, and why the workload may not read it now.
  struct Access {
    std::optional<std::string> name;
    const policy::TopicPolicy* topic = nullptr;  // null: not protected, or not known
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
  };

  Access AccessTo(const kafka::TopicId& id, const policy::Policy& policies);
  std::optional<std::string> TopicInOutage() const;
  io::Task<bool> WaitForKeys();
  absl::StatusOr<bool> WithholdRefused(kafka::ShareFetchRequest& request,
                                       std::vector<kafka::ShareFetchResponse::Topic>& refused);
  static proxy::RequestVerdict AnswerNothing(const proxy::RequestFrame& request, proxy::FrameOutput& output);
  static void AddRefused(const std::vector<kafka::ShareFetchResponse::Topic>& refused,
                         kafka::ShareFetchResponse& response);
  io::Task<bool> GuardPartition(const Access& access, RecordsOpener::Response& progress,
                                kafka::ShareFetchResponse::Partition& partition, proxy::Arena& arena);

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  RecordsOpener opener_;
  TopicLookup lookup_;
  DenialLog denials_;
  ShareSession session_;
  uint64_t toldBy_ = 0;  // the generation of the policies by which the broker has heard of what it has
};

}  // namespace kveil::guard
