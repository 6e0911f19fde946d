// SaslHandshake and SaslAuthenticate: nothing is changed or kept; the client's principal is known from the moment when
// the broker accepts it.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "guard/apis/guarded_apis.h"
#include "guard/client/client_facts.h"
#include "guard/client/sasl_exchange.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class SaslGuard : public proxy::Interceptor {
 public:
  SaslGuard(const proxy::ConnectionInfo& connection, std::shared_ptr<ClientFacts> client)
      : connection_(connection), client_(std::move(client)) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kSasl); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  struct State;

  proxy::RequestVerdict OnHandshake(const proxy::RequestFrame& request);

  const proxy::ConnectionInfo& connection_;
  const std::shared_ptr<ClientFacts> client_;
  // The exchange that the latest handshake began; answers belong to the exchange of their request.
  std::shared_ptr<SaslExchange> exchange_ = std::make_shared<SaslExchange>();
};

}  // namespace kveil::guard
