// ShareAcknowledge (KIP-932): a member says what became of records that it was given. Whoever was not given them,
// because it is another client or may not read the topic, must not have them given up for the whole group.
#pragma once

#include <vector>

#include "guard/apis/api_guard.h"
#include "guard/learn/topic_lookup.h"
#include "kafka/messages/share_acknowledge.h"

namespace kveil::guard {

class ShareAcknowledgeGuard : public ApiGuard<kafka::ShareAcknowledgeRequest> {
 public:
  explicit ShareAcknowledgeGuard(const GuardContext& context)
      : ApiGuard(context), lookup_(context.shared.topicNames, context.connection) {}

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  using Topics = std::vector<kafka::ShareAcknowledgeResponse::Topic>;
  struct State;

  Topics TakeOutDenied(kafka::ShareAcknowledgeRequest& request, const identity::Claims& claims) const;

  TopicLookup lookup_;
};

}  // namespace kveil::guard
