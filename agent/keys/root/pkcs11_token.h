// A PKCS#11 token: finding it, being logged in, and noticing that one of them was lost.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "crypto/secret_text.h"
#include "keys/root/pkcs11_module.h"
#include "keys/root/pkcs11_options.h"

namespace kveil::keys {

// Whether the agent may try a PIN at a token with these flags (CK_TOKEN_INFO). A supervisor starts an agent again that
// was refused, so the last try is the operator's. kPermissionDenied: no.
absl::Status MayTryPin(ck_flags_t flags);

// Any thread may call. The PIN is read when the agent logs in. One that was refused is not tried again in this process
// until the file changes: a few tries lock the token. Nor is one tried when the token says that wrong PINs were tried,
// perhaps this one before the agent was started again. One that this process has logged in with is.
class Pkcs11Token {
 public:
  explicit Pkcs11Token(const Pkcs11Options& options) : options_(options) {}
  ~Pkcs11Token();
  Pkcs11Token(const Pkcs11Token&) = delete;
  Pkcs11Token& operator=(const Pkcs11Token&) = delete;

  struct Outcome {
    absl::Status status;     // of getting as far as the call, and of a call that says that the key cannot be used so
    ck_rv_t value = CKR_OK;  // what the module returned last; it means nothing when the status is an error
  };
  // Calls the module with a session of its own, which is logged in.
  using Use = std::function<Outcome(pkcs11::Module& module, ck_session_handle_t session)>;
  // When the session, the login or the token is lost, all is opened anew and the call is made once more.
  // kUnavailable: the token is not there, or fails. kFailedPrecondition, kPermissionDenied: the operator has to do
  // something.
  Outcome Call(const Use& use) { return Call(use, CKF_SERIAL_SESSION); }
  // The same with a session that may change what is in the token.
  Outcome CallToWrite(const Use& use) { return Call(use, CKF_SERIAL_SESSION | CKF_RW_SESSION); }

  void Stop() { isStopping_ = true; }

 private:
  struct Login {
    pkcs11::Module* module = nullptr;
    ck_slot_id_t slot = 0;
    uint64_t number = 0;
  };

  Outcome Call(const Use& use, ck_flags_t flags);
  static Outcome CallOnce(const Login& login, const Use& use, ck_flags_t flags);
  absl::StatusOr<Login> GetLogin();
  absl::Status Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status EnterPin(ck_session_handle_t session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets a login that was lost, unless another thread has replaced it.
  void Forget(const Login& login);

  const Pkcs11Options options_;
  std::atomic<bool> isStopping_{false};

  Mutex mutex_;  // held while logging in: the others wait for the same login
  Login login_ ABSL_GUARDED_BY(mutex_);
  bool isOpen_ ABSL_GUARDED_BY(mutex_) = false;
  ck_session_handle_t session_ ABSL_GUARDED_BY(mutex_) = 0;  // keeps the login
};

}  // namespace kveil::keys
