// ApiVersions: offers the client no API and no version that the agent does not know. Every answer is the broker's.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "guard/apis/guarded_apis.h"
#include "guard/client/client_facts.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ApiVersionsGuard : public proxy::Interceptor {
 public:
  explicit ApiVersionsGuard(std::shared_ptr<ClientFacts> client) : client_(std::move(client)) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kApiVersions); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  const std::shared_ptr<ClientFacts> client_;
};

}  // namespace kveil::guard
