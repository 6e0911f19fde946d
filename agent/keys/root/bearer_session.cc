#include "keys/root/bearer_session.h"

#include <utility>

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::keys {

BearerSession::BearerSession(Options options, Source source)
    : options_(std::move(options)),
      client_({.ca = options_.ca}),
      tokens_([this, ask = std::move(source)](Deadline deadline) { return ask(client_, deadline); },
              options_.replacePause, options_.leastAge) {}

absl::StatusOr<crypto::SecretText> BearerSession::Call(std::string_view what, const std::string& path,
                                                       const crypto::SecretText& body, const Explain& explain,
                                                       Deadline deadline) {
  using Token = CredentialCache<AccessToken>::Credentials;
  ASSIGN_OR_RETURN(const Token token, tokens_.Get(deadline));
  ASSIGN_OR_RETURN(http::Response response, Send(path, body, *token, deadline));
  if (response.status == 200) return std::move(response.body);
  Refusal refusal = explain(response.status, response.body);
  if (refusal.isOfCredentials) {
    const absl::StatusOr<Token> another = tokens_.Replace(token, deadline);
    // Where another is not to be had now, a policy that denies still does.
    if (!another.ok() && !refusal.isDenied) return another.status();
    if (another.ok() && *another != nullptr) {
      ASSIGN_OR_RETURN(response, Send(path, body, **another, deadline));
      if (response.status == 200) return std::move(response.body);
      refusal = explain(response.status, response.body);
    }
  }
  return absl::Status(refusal.status.code(), StrCat(what, " ", ToStd(refusal.status.message())));
}

absl::StatusOr<http::Response> BearerSession::Send(const std::string& path, const crypto::SecretText& body,
                                                   const AccessToken& token, Deadline deadline) const {
  http::Request request;
  request.method = body.empty() ? "GET" : "POST";
  request.url = StrCat(options_.address, path);
  request.headers = {BearerHeader(token)};
  request.body = body;
  return client_.Send(request, deadline);
}

}  // namespace kveil::keys
