#include "keys/root/gcp_identity.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"
#include "http/form.h"
#include "http/printable.h"
#include "keys/root/aws_sources.h"
#include "keys/root/gcp_errors.h"
#include "keys/root/secret_json.h"
#include "keys/root/signed_jwt.h"

namespace kveil::keys::gcp {
namespace {

using crypto::SecretText;
using Deadline = std::chrono::steady_clock::time_point;

constexpr std::string_view kScope = "https://www.googleapis.com/auth/cloudkms";
// Of the token that only asks for another one.
constexpr std::string_view kImpersonationScope = "https://www.googleapis.com/auth/cloud-platform";
constexpr int64_t kAssertionLife = 3600;  // seconds, the longest that Google takes
constexpr std::string_view kIamCredentials = "Google's IAM Credentials";

// Of what IsOnTheNode takes, all but the addresses of metadata services.
bool IsLoopback(std::string_view url) {
  return aws::IsOnTheNode(url) &&
         (url.starts_with("http://127.") || url.starts_with("http://localhost") || url.starts_with("http://[::1]"));
}

// Tokens and assertions go there.
absl::Status CheckUrl(std::string_view name, std::string_view url) {
  if (url.starts_with("https://") || IsLoopback(url)) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat("its ", name, " has to be https://"));
}

http::Request Form(const std::string& url) {
  http::Request request;
  request.method = "POST";
  request.url = url;
  request.contentType = "application/x-www-form-urlencoded";
  return request;
}

absl::StatusOr<AccessToken> AskMetadata(const http::Client& client, const GcpOptions& options, Deadline deadline) {
  SecretText query;
  http::AppendFormField(query, "scopes", kScope);
  http::Request request;
  request.url =
      StrCat(options.metadata, "/computeMetadata/v1/instance/service-accounts/default/token?", crypto::AsText(query));
  request.headers = {crypto::MakeSecretText("Metadata-Flavor: Google")};
  return AskForToken(client, "Google's metadata server", request, deadline);
}

// The key signs that it wants a token.
absl::StatusOr<AccessToken> AskAsServiceAccount(const http::Client& client, JsonBody& file, Deadline deadline) {
  const std::string email = PlainString(*file.root(), "client_email");
  const std::string url = PlainString(*file.root(), "token_uri");
  const std::string keyId = PlainString(*file.root(), "private_key_id");
  const std::optional<SecretText> key = SecretLines(*file.root(), "private_key");
  if (email.empty() || url.empty() || !key.has_value()) {
    return absl::FailedPreconditionError("it has no client_email, token_uri or private_key");
  }
  RETURN_IF_ERROR(CheckUrl("token_uri", url));
  SecretText claims = JsonObject({{"iss", email}, {"scope", kScope}, {"aud", url}});
  claims.pop_back();
  const int64_t now = absl::ToUnixSeconds(absl::Now());
  crypto::Append(claims, StrCat(R"(,"iat":)", now, R"(,"exp":)", now + kAssertionLife, "}"));
  ASSIGN_OR_RETURN(const SecretText jwt, SignJwt(*key, keyId, claims));
  http::Request request = Form(url);
  http::AppendFormField(request.body, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
  http::AppendFormField(request.body, "assertion", crypto::AsText(jwt));
  return AskForToken(client, "Google's token endpoint", request, deadline);
}

// The service account's own token, for one that may ask for it.
absl::StatusOr<AccessToken> Impersonate(const http::Client& client, const std::string& url, const AccessToken& token,
                                        Deadline deadline) {
  http::Request request;
  request.method = "POST";
  request.url = url;
  request.headers = {BearerHeader(token)};
  request.body = crypto::MakeSecretText(StrCat(R"({"scope":[")", kScope, R"("],"lifetime":"3600s"})"));
  const absl::StatusOr<http::Response> response =
      client.Send(request, std::min(deadline, std::chrono::steady_clock::now() + kTokenPatience));
  if (!response.ok()) {
    return absl::Status(response.status().code(),
                        StrCat(kIamCredentials, " does not answer: ", ToStd(response.status().message())));
  }
  if (response->status != 200) {
    const Refusal refusal = RefusalOf(response->status, response->body, /*isDecrypt=*/false);
    return absl::Status(refusal.status.code(), StrCat(kIamCredentials, " ", ToStd(refusal.status.message())));
  }
  JsonBody json(response->body);
  if (json.root() == nullptr) return MakeToken(kIamCredentials, std::nullopt, std::nullopt);
  std::optional<SecretText> text = SecretString(*json.root(), "accessToken");
  absl::Time end;
  const bool hasEnd = absl::ParseTime(absl::RFC3339_full, PlainString(*json.root(), "expireTime"), &end, nullptr);
  return MakeToken(kIamCredentials, std::move(text), hasEnd ? std::optional(end) : std::nullopt);
}

// Google's Security Token Service takes the token of another issuer.
absl::StatusOr<AccessToken> AskAsExternalAccount(const http::Client& client, JsonBody& file, Deadline deadline) {
  const std::string audience = PlainString(*file.root(), "audience");
  const std::string type = PlainString(*file.root(), "subject_token_type");
  const std::string url = PlainString(*file.root(), "token_url");
  const std::string impersonation = PlainString(*file.root(), "service_account_impersonation_url");
  std::optional<JsonBody::Object> source = file.Member("credential_source");
  const std::string path = source.has_value() ? PlainString(*source, "file") : "";
  if (audience.empty() || type.empty() || url.empty() || path.empty()) {
    return absl::FailedPreconditionError("it has no audience, subject_token_type, token_url or credential_source.file");
  }
  JsonBody::Object format;
  if (!source->find_field_unordered("format").get_object().get(format) && PlainString(format, "type") != "text") {
    return absl::FailedPreconditionError("its credential_source.format has to be text");
  }
  RETURN_IF_ERROR(CheckUrl("token_url", url));
  if (!impersonation.empty()) RETURN_IF_ERROR(CheckUrl("service_account_impersonation_url", impersonation));
  ASSIGN_OR_RETURN(const SecretText subject, crypto::ReadSecret(path));
  http::Request request = Form(url);
  http::AppendFormField(request.body, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
  http::AppendFormField(request.body, "audience", audience);
  http::AppendFormField(request.body, "scope", impersonation.empty() ? kScope : kImpersonationScope);
  http::AppendFormField(request.body, "requested_token_type", "urn:ietf:params:oauth:token-type:access_token");
  http::AppendFormField(request.body, "subject_token_type", type);
  http::AppendFormField(request.body, "subject_token", crypto::AsText(subject));
  ASSIGN_OR_RETURN(AccessToken token, AskForToken(client, "Google's Security Token Service", request, deadline));
  if (impersonation.empty()) return token;
  return Impersonate(client, impersonation, token, deadline);
}

absl::StatusOr<AccessToken> AskByFile(const http::Client& client, const std::string& path, Deadline deadline) {
  ASSIGN_OR_RETURN(const SecretText text, crypto::ReadSecretFile(path));
  JsonBody file(text);
  if (file.root() == nullptr) return absl::FailedPreconditionError("it is no JSON object");
  const std::string type = PlainString(*file.root(), "type");
  if (type == "service_account") return AskAsServiceAccount(client, file, deadline);
  if (type == "external_account") return AskAsExternalAccount(client, file, deadline);
  return absl::FailedPreconditionError(
      StrCat("its type is \"", http::Printable(type), "\", and has to be service_account or external_account"));
}

}  // namespace

absl::StatusOr<AccessToken> AskForGcpToken(const http::Client& client, const GcpOptions& options, Deadline deadline) {
  if (options.credentialsFile.empty()) return AskMetadata(client, options, deadline);
  absl::StatusOr<AccessToken> token = AskByFile(client, options.credentialsFile, deadline);
  if (token.ok()) return token;
  return absl::Status(token.status().code(),
                      StrCat("the credentials of ", options.credentialsFile, ": ", ToStd(token.status().message())));
}

}  // namespace kveil::keys::gcp
