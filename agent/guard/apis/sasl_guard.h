// SaslHandshake and SaslAuthenticate: the client's principal is known from the moment when the broker accepts it. The
// guards change nothing and keep no token.
#pragma once

#include <string>

#include "guard/apis/api_guard.h"
#include "guard/client/sasl_exchange.h"
#include "kafka/messages/sasl.h"

namespace kveil::guard {

// Begins an exchange (ClientFacts::exchange).
class SaslHandshakeGuard : public ApiGuard<kafka::SaslHandshakeRequest> {
 public:
  using ApiGuard::ApiGuard;

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;
};

// Follows the exchange, in SaslAuthenticate messages or in the bare tokens that stand for them (proxy::kBareToken).
class SaslAuthenticateGuard : public ApiGuard<kafka::SaslAuthenticateRequest> {
 public:
  using ApiGuard::ApiGuard;

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  struct State;

  void LearnPrincipal(const SaslExchange& exchange);

  std::string logged_;  // the principal that the log has last: a client that authenticates again is mostly the same
};

}  // namespace kveil::guard
