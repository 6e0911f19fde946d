#include "keys/root/aws_session.h"

#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/root/aws_signature.h"

namespace kveil::keys {

AwsSession::AwsSession(const AwsOptions& options)
    : options_(options),
      host_(options.endpoint.substr(options.endpoint.find("://") + 3)),
      client_({.ca = options.ca}),
      credentials_(options) {}

absl::StatusOr<crypto::SecretText> AwsSession::Call(std::string_view operation, const crypto::SecretText& body,
                                                    Deadline deadline) {
  ASSIGN_OR_RETURN(const AwsCredentialChain::Credentials credentials, credentials_.Get(deadline));
  ASSIGN_OR_RETURN(http::Response response, Send(operation, body, *credentials, deadline));
  if (response.status == 200) return std::move(response.body);
  Refusal refusal = aws::RefusalOf(response.status, response.body);
  if (refusal.isOfCredentials) {
    const absl::StatusOr<AwsCredentialChain::Credentials> others = credentials_.Replace(credentials, deadline);
    // Where others are not to be had now, a policy that denies still does.
    if (!others.ok() && !refusal.isDenied) return others.status();
    if (others.ok() && *others != nullptr) {
      ASSIGN_OR_RETURN(response, Send(operation, body, **others, deadline));
      if (response.status == 200) return std::move(response.body);
      refusal = aws::RefusalOf(response.status, response.body);
    }
  }
  return absl::Status(refusal.status.code(), StrCat(operation, " ", ToStd(refusal.status.message())));
}

absl::StatusOr<http::Response> AwsSession::Send(std::string_view operation, const crypto::SecretText& body,
                                                const AwsCredentials& credentials, Deadline deadline) const {
  http::Request request;
  request.method = "POST";
  request.url = StrCat(options_.endpoint, "/");
  request.contentType = "application/x-amz-json-1.1";
  const std::string target = StrCat("TrentService.", operation);
  request.headers =
      SignAwsRequest(credentials, options_.region, "kms", absl::Now(),
                     {{"host", host_}, {"content-type", request.contentType}, {"x-amz-target", target}}, body);
  request.headers.push_back(crypto::MakeSecretText(StrCat("host: ", host_)));
  request.headers.push_back(crypto::MakeSecretText(StrCat("x-amz-target: ", target)));
  request.body = body;
  return client_.Send(request, deadline);
}

}  // namespace kveil::keys
