// The agent's dealings with a key service that wants a bearer token with each request.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "crypto/secret_text.h"
#include "http/client.h"
#include "keys/root/access_token.h"
#include "keys/root/credential_cache.h"
#include "keys/root/refusal.h"

namespace kveil::keys {

// Any thread may call.
class BearerSession {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  // Asks for a token.
  using Source = std::function<absl::StatusOr<AccessToken>(const http::Client& client, Deadline deadline)>;
  // What a response that is not 200 means.
  using Explain = std::function<Refusal(int httpStatus, const crypto::SecretText& body)>;

  struct Options {
    std::string address;  // of the service, "https://kms.example", without a path
    std::string ca;       // a PEM file; empty: the authorities of the system
    // As CredentialCache has them.
    std::chrono::milliseconds replacePause = std::chrono::seconds(10);
    std::chrono::milliseconds leastAge = std::chrono::seconds(60);
  };
  BearerSession(Options options, Source source);

  // The body of the response to a request to `path`, which begins with a slash. POST if there is a body, and GET
  // without one. A token that is refused is replaced once. `what` names the request in messages. Errors as in RootKey,
  // of the source or of `explain`.
  absl::StatusOr<crypto::SecretText> Call(std::string_view what, const std::string& path,
                                          const crypto::SecretText& body, const Explain& explain, Deadline deadline);

  void Stop() { client_.Stop(); }

 private:
  absl::StatusOr<http::Response> Send(const std::string& path, const crypto::SecretText& body, const AccessToken& token,
                                      Deadline deadline) const;

  const Options options_;
  http::Client client_;
  CredentialCache<AccessToken> tokens_;
};

}  // namespace kveil::keys
