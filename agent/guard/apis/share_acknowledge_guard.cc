#include "guard/apis/share_acknowledge_guard.h"

#include <memory>
#include <utility>

#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/apis/reading.h"
#include "guard/learn/advertised_brokers.h"
#include "proxy/owed_memory.h"

namespace kveil::guard {

using kafka::ErrorCode;
using kafka::ShareAcknowledgeRequest;
using kafka::ShareAcknowledgeResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// What is denied, for the answer.
struct ShareAcknowledgeGuard::State : proxy::RequestState {
  explicit State(Topics denied) : denied(std::move(denied)) {}

  const Topics denied;

  size_t bytes() const override {
    size_t bytes = sizeof(*this);
    for (const ShareAcknowledgeResponse::Topic& topic : denied) {
      bytes += sizeof(topic) + topic.partitions.size() * sizeof(topic.partitions[0]);
    }
    return bytes;
  }
};

io::Task<RequestVerdict> ShareAcknowledgeGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                                          proxy::FrameOutput& output) {
  Decoded<ShareAcknowledgeRequest> decoded(request, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  if (!client_->shareMember.Is(decoded->groupId, decoded->memberId)) {
    ShareAcknowledgeResponse unknown;
    unknown.errorCode = ErrorCode::kShareSessionNotFound;
    co_return AnswerRequest(request, unknown, request.header.version, output);
  }
  const std::shared_ptr<const identity::Claims> claims = ClaimsOf(request);
  std::vector<kafka::TopicId> ids;
  for (const ShareAcknowledgeRequest::Topic& topic : decoded->topics) ids.push_back(topic.topicId);
  auto learning = lookup_.Learn(std::move(ids), upstream);
  co_await std::move(learning);
  auto state = std::make_unique<State>(TakeOutDenied(*decoded, *claims));
  if (state->bytes() > proxy::OwedMemory::kMost) {
    co_return RequestVerdict::Close("a ShareAcknowledge request of which too much is refused to be remembered");
  }
  if (state->denied.empty()) co_return RequestVerdict::Forward().WantResponse(std::move(state));
  co_return RewriteRequest(request, *decoded, output).WantResponse(std::move(state));
}

// What is left is the broker's, if it is nothing: its word on the session counts, and the session goes on.
ShareAcknowledgeGuard::Topics ShareAcknowledgeGuard::TakeOutDenied(ShareAcknowledgeRequest& request,
                                                                   const identity::Claims& claims) const {
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Topics denied;
  std::erase_if(request.topics, [&](const ShareAcknowledgeRequest::Topic& topic) {
    const ErrorCode error =
        ShareAccessTo(shared_.topicNames.Find(topic.topicId, connection_), *policies, connection_.workload, claims)
            .error;
    if (error == ErrorCode::kNone) return false;
    ShareAcknowledgeResponse::Topic& answered = denied.emplace_back();
    answered.topicId = topic.topicId;
    for (const ShareAcknowledgeRequest::Partition& partition : topic.partitions) {
      ShareAcknowledgeResponse::Partition& refused = answered.partitions.emplace_back();
      refused.partitionIndex = partition.partitionIndex;
      refused.errorCode = error;
    }
    return true;
  });
  return denied;
}

io::Task<ResponseVerdict> ShareAcknowledgeGuard::OnResponse(const proxy::ResponseFrame& response,
                                                            proxy::RequestState* state, proxy::FrameOutput& output) {
  Decoded<ShareAcknowledgeResponse> decoded(response, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  auto learning = LearnBrokers(shared_.brokers, loop_, connection_, *decoded);
  bool changed = co_await std::move(learning);
  const auto* const ours = static_cast<const State*>(state);
  // With an error at the top a client looks at nothing else.
  if (ours != nullptr && !ours->denied.empty() && decoded->errorCode == ErrorCode::kNone) {
    decoded->responses.insert(decoded->responses.end(), ours->denied.begin(), ours->denied.end());
    changed = true;
  }
  if (!changed) co_return ResponseVerdict::Forward();
  co_return RewriteResponse(response, *decoded, output);
}

}  // namespace kveil::guard
