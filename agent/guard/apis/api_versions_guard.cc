#include "guard/apis/api_versions_guard.h"

#include <algorithm>
#include <limits>

#include "guard/apis/decoded.h"
#include "guard/apis/guarded_apis.h"
#include "guard/apis/message_output.h"

namespace kveil::guard {
namespace {

using kafka::ApiVersionsResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// No broker knows it, and none ever will: versions count up from 0.
constexpr int16_t kNoVersion = std::numeric_limits<int16_t>::max();

}  // namespace

io::Task<RequestVerdict> ApiVersionsGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                     proxy::FrameOutput& output) {
  if (kVersions.Contains(request.header.version)) {
    // A broken request is the broker's to answer.
    const auto decoded = kafka::Decode<kafka::ApiVersionsRequest>(request.body, request.header.version);
    if (decoded.ok()) client_->LearnName(decoded->clientSoftwareName);
    co_return RequestVerdict::Forward().WantResponse();
  }
  // The client must not use it, whether the broker knows it or not. So the broker is asked in one that it does not
  // know: it says so, with the range that it has, in version 0 (KIP-511), and the client asks again within that.
  output.writer.BeginFrame();
  output.writer.Append(request.frame.first(sizeof(int16_t)));
  output.writer.Int(kNoVersion);
  output.writer.Append(request.frame.subspan(2 * sizeof(int16_t)));
  output.writer.FinishFrame();
  co_return RequestVerdict::Rewrite().WantResponse();
}

io::Task<ResponseVerdict> ApiVersionsGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                                       proxy::FrameOutput& output) {
  Decoded<ApiVersionsResponse> decoded(response, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  // Only the maximum is lowered: librdkafka switches compression off when it sees a raised minimum of Produce.
  for (ApiVersionsResponse::ApiVersion& offered : decoded->apiKeys) {
    offered.maxVersion = std::min(offered.maxVersion, NewestAllowed(offered.apiKey));
  }
  std::erase_if(decoded->apiKeys, [](const auto& offered) { return offered.maxVersion < offered.minVersion; });
  co_return RewriteResponse(response, *decoded, output);
}

}  // namespace kveil::guard
