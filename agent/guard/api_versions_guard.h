// ApiVersions: offers the client no version of a guarded API that the agent cannot read, and no API that it cannot
// guard.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "guard/client_facts.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ApiVersionsGuard : public proxy::Interceptor {
 public:
  explicit ApiVersionsGuard(std::shared_ptr<ClientFacts> client) : client_(std::move(client)) {}

  std::vector<kafka::ApiKey> Wants() const override { return {kafka::ApiKey::kApiVersions}; }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  const std::shared_ptr<ClientFacts> client_;
};

}  // namespace kveil::guard
