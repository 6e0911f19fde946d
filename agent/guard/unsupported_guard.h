// Requests that would carry records past the guards, or after which a connection can no longer be read: closed with a
// line in the log.
#pragma once

#include <vector>

#include "kafka/api.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// Share groups (KIP-932): ShareFetch is a second way to read records, and leaving one out would consume it for the
// group.
inline bool IsUnsupported(kafka::ApiKey api) {
  switch (api) {
    case kafka::ApiKey::kShareFetch:
    case kafka::ApiKey::kShareAcknowledge:
    case kafka::ApiKey::kShareGroupHeartbeat:
      return true;
    default:
      return false;
  }
}

class UnsupportedGuard : public proxy::Interceptor {
 public:
  std::vector<kafka::ApiKey> Wants() const override {
    return {kafka::ApiKey::kShareFetch, kafka::ApiKey::kShareAcknowledge, kafka::ApiKey::kShareGroupHeartbeat,
            kafka::ApiKey::kSaslHandshake};
  }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;
};

}  // namespace kveil::guard
