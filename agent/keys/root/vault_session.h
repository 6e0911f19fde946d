// The agent's dealings with one Vault or OpenBao server as one identity: tokens, and requests that carry them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "crypto/secret_text.h"
#include "http/client.h"
#include "keys/root/vault_messages.h"
#include "keys/root/vault_options.h"

namespace kveil::keys {

// Any thread may call. Logs in when a request needs it, renews the token after two thirds of its time, and logs in anew
// when it ended: a token that has ended is refused as a policy that denies would refuse it.
class VaultSession {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  explicit VaultSession(const VaultOptions& options);
  // Revokes the token, if it comes from a login, and waits two seconds for that at most.
  ~VaultSession();
  VaultSession(const VaultSession&) = delete;
  VaultSession& operator=(const VaultSession&) = delete;

  struct Answer {
    int status = 0;  // 2xx, 400 or 404
    crypto::SecretText body;
  };
  // Sends a request to PATH below /v1/. kUnavailable: no answer, or one that passes by itself (5xx, 429, sealed,
  // standby). kPermissionDenied: refused also with a new token, or the login was. kFailedPrecondition: what is
  // configured cannot work.
  absl::StatusOr<Answer> Call(std::string_view method, const std::string& path, const crypto::SecretText& body,
                              Deadline deadline);

  void Stop() { client_.Stop(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Token {
    crypto::SecretText text;
    uint64_t number = 0;  // counts the logins
    Clock::time_point begun;
  };

  http::Request RequestOf(std::string_view method, const std::string& path, const crypto::SecretText& body,
                          const crypto::SecretText* token) const;
  // A request with this token, or without one. An answer that is not Vault's is kUnavailable.
  absl::StatusOr<http::Response> Send(std::string_view method, const std::string& path, const crypto::SecretText& body,
                                      const crypto::SecretText* token, Deadline deadline) const;
  absl::StatusOr<std::shared_ptr<const Token>> GetToken(Deadline deadline);
  // Another token than the one of this number, which was refused, and is revoked then.
  absl::StatusOr<std::shared_ptr<const Token>> ReplaceToken(const Token& refused, Deadline deadline);

  absl::Status Login(Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<vault::Login> AskForToken(const crypto::SecretText& secret, Deadline deadline) const;
  void TakeFileToken(crypto::SecretText text, Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Asks how long the token of the file holds; again in a while, when that is not answered.
  void LookUpToken(Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeToken(vault::Login login) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeLease(const vault::Login& login, Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // OK also when it could not be renewed and may still be used.
  absl::Status Renew(Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const VaultOptions options_;
  http::Client client_;

  // Held while logging in: the others wait for the same token.
  Mutex mutex_;
  std::shared_ptr<const Token> token_ ABSL_GUARDED_BY(mutex_);
  uint64_t logins_ ABSL_GUARDED_BY(mutex_) = 0;
  std::chrono::seconds firstLease_ ABSL_GUARDED_BY(mutex_){0};
  Clock::time_point lookUpAt_ ABSL_GUARDED_BY(mutex_) = Clock::time_point::max();
  Clock::time_point renewAt_ ABSL_GUARDED_BY(mutex_) = Clock::time_point::max();
  Clock::time_point endsAt_ ABSL_GUARDED_BY(mutex_) = Clock::time_point::max();
};

}  // namespace kveil::keys
