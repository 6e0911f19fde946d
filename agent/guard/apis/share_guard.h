// ShareFetch (KIP-932): opens what the group may read. A record that is left out counts as consumed by the whole group,
// so hidden ones are masked, and of what cannot be opened the client is told that it did not get it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "guard/apis/api_guard.h"
#include "guard/apis/reading.h"
#include "guard/apis/share_refusals.h"
#include "guard/apis/share_session.h"
#include "guard/learn/topic_lookup.h"
#include "guard/open/records_opener.h"
#include "guard/refuse/denial_log.h"
#include "guard/worker/needs.h"
#include "kafka/messages/share_fetch.h"

namespace kveil::guard {

class ShareGuard : public ApiGuard<kafka::ShareFetchRequest> {
 public:
  explicit ShareGuard(const GuardContext& context)
      : ApiGuard(context),
        scratch_(context.scratch),
        opener_(context.shared, context.scratch, context.loop, context.connection),
        lookup_(context.shared.topicNames, context.connection),
        denials_(context.connection),
        session_(context.connection.workload.share) {}

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  using Claims = std::shared_ptr<const identity::Claims>;
  struct State;
  struct Opened {
    bool changed = false;
    bool hadRecords = false;
  };
  struct Outage {
    std::string topic;
    std::string readers;  // as of KeyOutages::Place
    Needs missing;
  };

  ReadAccess AccessTo(const kafka::TopicId& id, const policy::Policy& policies, const identity::Claims& claims);
  void Deny(const ReadAccess& access, std::string_view reason);
  std::optional<Outage> FindOutage(const identity::Claims& claims);
  std::optional<Outage> FindOutageOf(const ReadAccess& access);
  void NoteOutage(const ReadAccess& access, Needs missing);
  io::Task<bool> WaitForKeys(const identity::Claims& claims);
  absl::StatusOr<bool> TakeOutRefused(kafka::ShareFetchRequest& request, const Claims& claims,
                                      ShareRefusals::Topics& refused);
  static proxy::RequestVerdict AnswerNothing(const proxy::RequestFrame& request, proxy::FrameOutput& output);
  io::Task<Opened> OpenTopics(kafka::ShareFetchResponse& response, size_t frameSize, int64_t most,
                              const identity::Claims& claims, proxy::Arena& arena);
  io::Task<bool> GuardPartition(const ReadAccess& access, RecordsOpener::Response& progress,
                                kafka::ShareFetchResponse::Partition& partition, proxy::Arena& arena);

  WorkerScratch& scratch_;
  RecordsOpener opener_;
  TopicLookup lookup_;
  DenialLog denials_;
  ShareSession session_;
  // By which policies (their generation) and claims the broker has heard of what it has.
  std::pair<uint64_t, Claims> toldBy_;
};

}  // namespace kveil::guard
