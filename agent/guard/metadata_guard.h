// Metadata, FindCoordinator, DescribeCluster, CreateTopics, DescribeTopicPartitions: nothing is changed; topic ids and
// brokers are learned before the client hears of them.
#pragma once

#include <vector>

#include "guard/shared_state.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class MetadataGuard : public proxy::Interceptor {
 public:
  MetadataGuard(SharedState& shared, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared), loop_(loop), connection_(connection) {}

  std::vector<kafka::ApiKey> Wants() const override {
    return {kafka::ApiKey::kMetadata, kafka::ApiKey::kFindCoordinator, kafka::ApiKey::kDescribeCluster,
            kafka::ApiKey::kCreateTopics, kafka::ApiKey::kDescribeTopicPartitions};
  }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  struct Broker {
    std::string_view host;
    int32_t port = 0;
  };

  // Learns the topics and collects the brokers, whose host names are views into the response.
  absl::Status Read(const proxy::ResponseFrame& response, std::vector<Broker>& brokers);

  SharedState& shared_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
};

}  // namespace kveil::guard
