#include "kubernetes/api_server.h"

#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"
#include "kubernetes/messages.h"

namespace kveil::kubernetes {
namespace {

absl::StatusCode CodeOf(int status) {
  switch (status) {
    case 401:
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 409:
    case 422:
      return absl::StatusCode::kAborted;
    case 410:
      return absl::StatusCode::kOutOfRange;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

}  // namespace

absl::StatusOr<crypto::SecretText> ApiServer::Get(std::string_view path, Deadline deadline) const {
  ASSIGN_OR_RETURN(const http::Request request, MakeRequest(path));
  return Send(request, deadline);
}

absl::Status ApiServer::Stream(std::string_view path, Deadline deadline,
                               std::function<bool(std::string_view)> onBody) const {
  ASSIGN_OR_RETURN(http::Request request, MakeRequest(path));
  request.onBody = std::move(onBody);
  return Send(request, deadline).status();
}

absl::Status ApiServer::Patch(std::string_view path, std::string_view patch, Deadline deadline) const {
  ASSIGN_OR_RETURN(http::Request request, MakeRequest(path));
  request.method = "PATCH";
  request.contentType = "application/json-patch+json";
  request.body = crypto::MakeSecretText(patch);
  return Send(request, deadline).status();
}

absl::StatusOr<http::Request> ApiServer::MakeRequest(std::string_view path) const {
  ASSIGN_OR_RETURN(const crypto::SecretText token, crypto::ReadSecret(options_.tokenFile));
  http::Request request;
  request.url = StrCat(options_.address, path);
  request.headers.push_back(http::BearerHeader(token));
  return request;
}

absl::StatusOr<crypto::SecretText> ApiServer::Send(const http::Request& request, Deadline deadline) const {
  absl::StatusOr<http::Response> response = client_.Send(request, deadline);
  if (!response.ok()) return Error(response.status().code(), StrCat(": ", ToStd(response.status().message())));
  if (response->status == 200) return std::move(response->body);
  std::string what = StrCat(" answers with HTTP ", response->status, ReasonOf(crypto::AsText(response->body)));
  if (response->status == 401) StrAppend(&what, " (the token is refused)");
  return Error(CodeOf(response->status), what);
}

absl::Status ApiServer::Error(absl::StatusCode code, std::string_view what) const {
  return absl::Status(code, StrCat("the Kubernetes API server ", options_.address, what));
}

}  // namespace kveil::kubernetes
