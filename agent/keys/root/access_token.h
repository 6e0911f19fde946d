// Bearer tokens (RFC 6750), and the endpoints that give them (RFC 6749).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "crypto/secret_text.h"
#include "http/client.h"

namespace kveil::keys {

struct AccessToken {
  crypto::SecretText text;
  std::optional<absl::Time> endsAt;

  friend bool operator==(const AccessToken& a, const AccessToken& b) { return a.text == b.text; }
};

// How long an endpoint may take to give a token.
inline constexpr std::chrono::seconds kTokenPatience{5};

// Sends a request whose answer is a token, as RFC 6749, section 5, writes it. Waits for it until the deadline, and for
// kTokenPatience at most. `who` is for messages: "Microsoft Entra ID".
//
// kUnavailable: no answer, one that passes by itself, or one that is not of the endpoint (as of a proxy).
// kPermissionDenied: the endpoint refuses the agent's credentials. kFailedPrecondition: what was asked for is wrong.
absl::StatusOr<AccessToken> AskForToken(const http::Client& client, std::string_view who, const http::Request& request,
                                        std::chrono::steady_clock::time_point deadline);

// A token that somebody gave. kUnavailable: these are not the text and the end of one.
absl::StatusOr<AccessToken> MakeToken(std::string_view who, std::optional<crypto::SecretText> text,
                                      std::optional<absl::Time> endsAt);

// The header of a request that the token is for.
crypto::SecretText BearerHeader(const AccessToken& token);

}  // namespace kveil::keys
