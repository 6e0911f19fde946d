// What the TLS connections to one cluster share: trusted certificates, the client's identity, sessions to resume.
#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "io/tls_session.h"

namespace kveil::io {

// PEM files; empty: none.
struct TlsFiles {
  std::string ca;           // trusted certificates; empty: those of the system
  std::string certificate;  // the client's, with its chain
  std::string key;          // its private key, not encrypted
  std::string crl;          // revocation lists; then each certificate of a chain needs its issuer's
};

// Thread-safe.
class TlsContext : public std::enable_shared_from_this<TlsContext> {
 public:
  // `version12` also allows TLS 1.2. Sessions are resumed until `resumableFor` after the handshake that checked the
  // peer's certificate. kInvalidArgument names the file and says what is wrong with it.
  static absl::StatusOr<std::shared_ptr<TlsContext>> Load(
      const TlsFiles& files, bool version12 = true, std::chrono::milliseconds resumableFor = std::chrono::minutes(10));
  ~TlsContext();

  // For one connection to `peer`; resumes an earlier session with the same peer if there is one. kInternal.
  absl::StatusOr<std::unique_ptr<TlsSession>> NewSession(TlsPeer peer);

  // SubjectText of the certificate that brokers are shown, or "" without one.
  std::string Subject() const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  struct FreeSession {
    void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
  };
  struct Resumable {
    std::unique_ptr<SSL_SESSION, FreeSession> session;
    std::chrono::steady_clock::time_point checkedAt;
  };

  TlsContext(std::unique_ptr<SSL_CTX, Free> context, std::chrono::milliseconds resumableFor);
  static int Verify(X509_STORE_CTX* chain, void*);
  static int OnNewSession(SSL* ssl, SSL_SESSION* session);

  const std::unique_ptr<SSL_CTX, Free> context_;
  const std::chrono::milliseconds resumableFor_;
  kveil::Mutex mutex_;
  absl::flat_hash_map<std::string, Resumable> resumable_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::io
