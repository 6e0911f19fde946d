// Where the agent's tokens for Azure come from.
#pragma once

#include <chrono>

#include "absl/status/statusor.h"
#include "http/client.h"
#include "keys/root/access_token.h"
#include "keys/root/azure_options.h"

namespace kveil::keys::azure {

// One request; nothing is kept, and files are read anew, as others replace them. Errors as in AskForToken, and
// kFailedPrecondition for a file that cannot be read.
//
// Managed identities:
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
// The others: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
absl::StatusOr<AccessToken> AskForAzureToken(const http::Client& client, const AzureOptions& options,
                                             std::chrono::steady_clock::time_point deadline);

}  // namespace kveil::keys::azure
