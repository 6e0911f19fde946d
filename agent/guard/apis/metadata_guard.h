// Metadata, FindCoordinator, DescribeCluster, CreateTopics, DescribeTopicPartitions, ShareAcknowledge: topic ids and
// brokers are learned before the client hears of them. Nothing is changed, but for brokers that cannot be learned.
#pragma once

#include <vector>

#include "guard/apis/guarded_apis.h"
#include "guard/state/shared_state.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class MetadataGuard : public proxy::Interceptor {
 public:
  MetadataGuard(SharedState& shared, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared), loop_(loop), connection_(connection) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kLearning); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  template <class Response>
  io::Task<void> LearnTopics(const Response& response);
  template <class Response>
  io::Task<proxy::ResponseVerdict> Learn(const proxy::ResponseFrame& response, proxy::FrameOutput& output);

  SharedState& shared_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
};

}  // namespace kveil::guard
