#include "guard/unsupported_guard.h"

#include "base/text.h"

namespace kveil::guard {

using proxy::RequestVerdict;
using proxy::ResponseVerdict;

io::Task<RequestVerdict> UnsupportedGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                     proxy::FrameOutput&) {
  if (IsUnsupported(request.header.apiKey)) {
    co_return RequestVerdict::Close(
        StrCat(kafka::ApiName(request.header.apiKey), ": share groups are not supported in this version"));
  }
  // After SaslHandshake version 0 the tokens are bare, without a Kafka header: the stream could not be told apart.
  if (request.header.version == 0) {
    co_return RequestVerdict::Close("SaslHandshake version 0 is not supported in this version; version 1 is");
  }
  co_return RequestVerdict::Forward();
}

io::Task<ResponseVerdict> UnsupportedGuard::OnResponse(const proxy::ResponseFrame&, proxy::RequestState*,
                                                       proxy::FrameOutput&) {
  co_return ResponseVerdict::Forward();
}

}  // namespace kveil::guard
