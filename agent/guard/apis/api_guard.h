// A guard: the interceptor of one Kafka API.
#pragma once

#include <memory>
#include <vector>

#include "guard/apis/guard_context.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// `Message` is the request or the response of the API. Its versions are those that the guard can read: whatever comes
// in another version closes the connection (decoded.h).
template <class Message>
class ApiGuard : public proxy::Interceptor {
 public:
  static constexpr kafka::ApiKey kApiKey = Message::kApiKey;
  static constexpr kafka::VersionRange kVersions = Message::kVersions;

  explicit ApiGuard(const GuardContext& context)
      : shared_(context.shared), loop_(context.loop), connection_(context.connection), client_(context.client) {}

  std::vector<kafka::ApiKey> Wants() const final { return {kApiKey}; }

 protected:
  // What the client claims with this request.
  std::shared_ptr<const identity::Claims> ClaimsOf(const proxy::RequestFrame& request) const {
    return client_->ClaimsWith(request.header.clientId.value_or(""), connection_.certificateSubject);
  }

  SharedState& shared_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  const std::shared_ptr<ClientFacts> client_;
};

}  // namespace kveil::guard
