#include "keys/root/azure_identity.h"

#include <string_view>

#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"
#include "http/form.h"

namespace kveil::keys::azure {
namespace {

using crypto::SecretText;
using Deadline = std::chrono::steady_clock::time_point;

absl::StatusOr<AccessToken> AskMetadata(const http::Client& client, const AzureOptions& options, Deadline deadline) {
  SecretText query;
  http::AppendFormField(query, "api-version", "2018-02-01");
  http::AppendFormField(query, "resource", options.resource);
  if (!options.clientId.empty()) http::AppendFormField(query, "client_id", options.clientId);
  http::Request request;
  request.url = StrCat(options.metadata, "/metadata/identity/oauth2/token?", crypto::AsText(query));
  request.headers = {crypto::MakeSecretText("Metadata: true")};
  return AskForToken(client, "Azure's instance metadata service", request, deadline);
}

absl::StatusOr<AccessToken> AskEntra(const http::Client& client, const AzureOptions& options, Deadline deadline) {
  ASSIGN_OR_RETURN(const SecretText secret, crypto::ReadSecret(options.secretFile));
  http::Request request;
  request.method = "POST";
  request.url = StrCat(options.authority, "/", options.tenant, "/oauth2/v2.0/token");
  request.contentType = "application/x-www-form-urlencoded";
  http::AppendFormField(request.body, "grant_type", "client_credentials");
  http::AppendFormField(request.body, "client_id", options.clientId);
  http::AppendFormField(request.body, "scope", StrCat(options.resource, "/.default"));
  if (options.auth == AzureOptions::Auth::kClientSecret) {
    http::AppendFormField(request.body, "client_secret", crypto::AsText(secret));
  } else {
    http::AppendFormField(request.body, "client_assertion_type",
                          "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    http::AppendFormField(request.body, "client_assertion", crypto::AsText(secret));
  }
  return AskForToken(client, "Microsoft Entra ID", request, deadline);
}

}  // namespace

absl::StatusOr<AccessToken> AskForAzureToken(const http::Client& client, const AzureOptions& options,
                                             Deadline deadline) {
  const bool isManaged = options.auth == AzureOptions::Auth::kManagedIdentity;
  return isManaged ? AskMetadata(client, options, deadline) : AskEntra(client, options, deadline);
}

}  // namespace kveil::keys::azure
