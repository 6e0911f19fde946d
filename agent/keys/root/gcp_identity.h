// Where the agent's tokens for Google Cloud come from.
#pragma once

#include <chrono>

#include "absl/status/statusor.h"
#include "http/client.h"
#include "keys/root/access_token.h"
#include "keys/root/gcp_options.h"

namespace kveil::keys::gcp {

// Nothing is kept, and files are read anew, as others replace them. Errors as in AskForToken, and kFailedPrecondition
// for a file that cannot be read or is of another kind.
//
// Service account keys: https://developers.google.com/identity/protocols/oauth2/service-account
// Workload identity federation: https://google.aip.dev/auth/4117, with the workload's token in a file
// Metadata server: https://cloud.google.com/compute/docs/access/authenticate-workloads
absl::StatusOr<AccessToken> AskForGcpToken(const http::Client& client, const GcpOptions& options,
                                           std::chrono::steady_clock::time_point deadline);

}  // namespace kveil::keys::gcp
