// ApiVersions: the client is offered no API and no version that the agent does not know. Every answer is the broker's.
#pragma once

#include "guard/apis/api_guard.h"
#include "kafka/messages/api_versions.h"

namespace kveil::guard {

class ApiVersionsGuard : public ApiGuard<kafka::ApiVersionsResponse> {
 public:
  using ApiGuard::ApiGuard;

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;
};

}  // namespace kveil::guard
