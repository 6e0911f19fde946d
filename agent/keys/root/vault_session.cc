#include "keys/root/vault_session.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"
#include "http/jitter.h"

namespace kveil::keys {
namespace {

using crypto::SecretText;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kRevoke[] = "auth/token/revoke-self";
constexpr seconds kRevoking{2};

bool PassesByItself(int status) {
  // 412: a standby that has not heard of a write yet; 429: too many requests, or a standby; 472, 473: other standbys.
  return status >= 500 || status == 412 || status == 429 || status == 472 || status == 473;
}

absl::Status ErrorOf(const http::Response& response) {
  const std::string what = StrCat("answers with HTTP ", response.status, vault::ErrorsOf(response.body));
  if (PassesByItself(response.status)) return absl::UnavailableError(what);
  if (response.status >= 300 && response.status < 400) {
    return absl::UnavailableError(StrCat(what, " (a redirect, as of a standby; it is not followed)"));
  }
  return absl::FailedPreconditionError(what);
}

}  // namespace

VaultSession::VaultSession(const VaultOptions& options) : options_(options), client_({.ca = options.ca}) {}

// What it can do no more, nobody can do with it who has found it. A client that was stopped sends nothing.
VaultSession::~VaultSession() {
  const MutexLock lock(mutex_);
  if (token_ == nullptr || options_.auth == VaultOptions::Auth::kTokenFile || Clock::now() >= endsAt_) return;
  const http::Client client({.ca = options_.ca});
  client.Send(RequestOf("POST", kRevoke, crypto::MakeSecretText("{}"), &token_->text), Clock::now() + kRevoking)
      .IgnoreError();
}

absl::StatusOr<VaultSession::Answer> VaultSession::Call(std::string_view method, const std::string& path,
                                                        const SecretText& body, Deadline deadline) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Token> token, GetToken(deadline));
  ASSIGN_OR_RETURN(http::Response response, Send(method, path, body, &token->text, deadline));
  if (response.status == 403) {
    const std::string reason = vault::ErrorsOf(response.body);
    absl::StatusOr<std::shared_ptr<const Token>> another = ReplaceToken(*token, deadline);
    if (!another.ok()) return another.status();
    if (*another == nullptr) {
      return absl::PermissionDeniedError(StrCat("does not allow the agent ", method, " ", path, reason));
    }
    ASSIGN_OR_RETURN(response, Send(method, path, body, &(*another)->text, deadline));
    if (response.status == 403) {
      return absl::PermissionDeniedError(
          StrCat("does not allow the agent ", method, " ", path, vault::ErrorsOf(response.body)));
    }
  }
  if (response.status / 100 != 2 && response.status != 400 && response.status != 404) return ErrorOf(response);
  return Answer{response.status, std::move(response.body)};
}

http::Request VaultSession::RequestOf(std::string_view method, const std::string& path, const SecretText& body,
                                      const SecretText* token) const {
  http::Request request;
  request.method = std::string(method);
  request.url = StrCat(options_.address, "/v1/", path);
  request.headers.push_back(crypto::MakeSecretText("X-Vault-Request: true"));
  if (!options_.nameSpace.empty()) {
    request.headers.push_back(crypto::MakeSecretText(StrCat("X-Vault-Namespace: ", options_.nameSpace)));
  }
  if (token != nullptr) {
    SecretText header = crypto::MakeSecretText("X-Vault-Token: ");
    crypto::Append(header, crypto::AsText(*token));
    request.headers.push_back(std::move(header));
  }
  request.body = body;
  return request;
}

absl::StatusOr<http::Response> VaultSession::Send(std::string_view method, const std::string& path,
                                                  const SecretText& body, const SecretText* token,
                                                  Deadline deadline) const {
  ASSIGN_OR_RETURN(http::Response response, client_.Send(RequestOf(method, path, body, token), deadline));
  // A proxy or a load balancer in between refuses in words of its own, and says nothing about keys and tokens.
  if (response.status / 100 == 4 && !vault::IsAnswer(response.body)) {
    return absl::UnavailableError(StrCat("is answered for with HTTP ", response.status, " by something else"));
  }
  return response;
}

absl::StatusOr<std::shared_ptr<const VaultSession::Token>> VaultSession::GetToken(Deadline deadline) {
  const MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  if (options_.auth == VaultOptions::Auth::kTokenFile) {
    ASSIGN_OR_RETURN(SecretText text, crypto::ReadSecret(options_.secretFile));
    if (token_ == nullptr || token_->text != text) TakeFileToken(std::move(text), deadline);
    if (now >= lookUpAt_) LookUpToken(deadline);
  } else if (token_ == nullptr || now >= endsAt_) {
    RETURN_IF_ERROR(Login(deadline));
  }
  if (now >= renewAt_) {
    if (absl::Status status = Renew(deadline); !status.ok()) {
      if (now >= endsAt_) return status;
      renewAt_ = now + options_.askAgain;  // the token that is there may still be used
    }
  }
  return token_;
}

absl::StatusOr<std::shared_ptr<const VaultSession::Token>> VaultSession::ReplaceToken(const Token& refused,
                                                                                      Deadline deadline) {
  const MutexLock lock(mutex_);
  if (token_->number != refused.number) return token_;  // another thread was quicker
  if (options_.auth == VaultOptions::Auth::kTokenFile) {
    ASSIGN_OR_RETURN(SecretText text, crypto::ReadSecret(options_.secretFile));
    if (text == refused.text) return nullptr;
    TakeFileToken(std::move(text), deadline);
    return token_;
  }
  const Clock::time_point now = Clock::now();
  if (now - refused.begun < options_.loginPause) return nullptr;
  RETURN_IF_ERROR(Login(deadline));
  // It may be well, and a policy denies. Whoever still uses it is refused, and gets the new one.
  Send("POST", kRevoke, crypto::MakeSecretText("{}"), &refused.text, std::min(deadline, now + kRevoking)).IgnoreError();
  return token_;
}

absl::Status VaultSession::Login(Deadline deadline) {
  ASSIGN_OR_RETURN(const SecretText secret, crypto::ReadSecret(options_.secretFile));
  ASSIGN_OR_RETURN(vault::Login login, AskForToken(secret, deadline));
  TakeToken(std::move(login));
  return absl::OkStatus();
}

absl::StatusOr<vault::Login> VaultSession::AskForToken(const SecretText& secret, Deadline deadline) const {
  const bool isAppRole = options_.auth == VaultOptions::Auth::kAppRole;
  const std::string_view text = crypto::AsText(secret);
  const SecretText body =
      isAppRole ? vault::AppRoleRequest(options_.role, text) : vault::KubernetesRequest(options_.role, text);
  const std::string path = StrCat("auth/", options_.authMount, "/login");
  ASSIGN_OR_RETURN(const http::Response response, Send("POST", path, body, nullptr, deadline));
  if (response.status == 400 || response.status == 401 || response.status == 403) {
    return absl::PermissionDeniedError(
        StrCat("refuses the login at ", path, " with HTTP ", response.status, vault::ErrorsOf(response.body)));
  }
  if (response.status != 200) return ErrorOf(response);
  ASSIGN_OR_RETURN(vault::Login login, vault::ParseLogin(response.body));
  if (login.token.empty()) return absl::UnavailableError("its response makes no sense: a login without a token");
  return login;
}

void VaultSession::TakeFileToken(SecretText text, Deadline deadline) {
  TakeToken({.token = std::move(text)});
  LookUpToken(deadline);
}

// Whoever writes the file may renew the token. When nobody does, it is renewed here, if it may be.
void VaultSession::LookUpToken(Deadline deadline) {
  lookUpAt_ = Clock::time_point::max();
  const absl::StatusOr<http::Response> response = Send("GET", "auth/token/lookup-self", {}, &token_->text, deadline);
  const Clock::time_point now = Clock::now();
  if (!response.ok() || PassesByItself(response->status)) {
    lookUpAt_ = now + options_.askAgain;
  } else if (response->status == 200) {
    if (const absl::StatusOr<vault::Login> found = vault::ParseLookup(response->body); found.ok()) {
      TakeLease(*found, now);
    }
  }
}

void VaultSession::TakeToken(vault::Login login) {
  auto token = std::make_shared<Token>();
  token->text = std::move(login.token);
  token->number = ++logins_;
  token->begun = Clock::now();
  firstLease_ = login.lease;
  TakeLease(login, token->begun);
  token_ = std::move(token);
}

void VaultSession::TakeLease(const vault::Login& login, Clock::time_point now) {
  endsAt_ = renewAt_ = Clock::time_point::max();
  if (login.lease == seconds(0)) return;
  // Those that logged in at the same moment do not renew at the same moment.
  const milliseconds lease = login.lease;
  const milliseconds most = std::max(lease / 5, milliseconds(1));
  endsAt_ = now + lease;
  if (login.isRenewable) renewAt_ = now + lease * 3 / 5 + http::UpTo(most);
}

absl::Status VaultSession::Renew(Deadline deadline) {
  const Clock::time_point now = Clock::now();
  const bool isFile = options_.auth == VaultOptions::Auth::kTokenFile;
  const absl::StatusOr<http::Response> response =
      Send("POST", "auth/token/renew-self", crypto::MakeSecretText("{}"), &token_->text, deadline);
  if (response.ok() && response->status == 200) {
    const absl::StatusOr<vault::Login> renewed = vault::ParseLogin(response->body);
    // At the end of the time that a token may have in all, each renewal adds less.
    if (renewed.ok() && (isFile || renewed->lease >= firstLease_ / 2)) {
      TakeLease(*renewed, now);
      return absl::OkStatus();
    }
  }
  const bool isRefused = response.ok() && !PassesByItself(response->status);
  if (isRefused && !isFile) return Login(deadline);
  if (isRefused) log::Warning("keys.rootKey.tokenNotRenewed", {{"file", options_.secretFile}});
  renewAt_ = isRefused ? Clock::time_point::max() : now + options_.askAgain;
  return absl::OkStatus();
}

}  // namespace kveil::keys
