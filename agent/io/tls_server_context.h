// The server's side of TLS: the certificates to show, and whose certificates are asked for and checked.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "io/tls_session.h"

namespace kveil::io {

// PEM files.
struct TlsServerFiles {
  struct Identity {
    std::string certificate;  // with its chain
    std::string key;          // not encrypted; for its owner only, who is root or this process's user
  };
  std::vector<Identity> identities;  // at least one
  std::string clientCa;              // who may have issued clients' certificates; empty: none is asked for
  bool needsCertificate = false;     // with clientCa: a client without one is refused
};

// Thread-safe, and the same after Load.
class TlsServerContext : public std::enable_shared_from_this<TlsServerContext> {
 public:
  // `version12` also allows TLS 1.2. kInvalidArgument names the file and says what is wrong with it.
  static absl::StatusOr<std::shared_ptr<const TlsServerContext>> Load(const TlsServerFiles& files,
                                                                      bool version12 = true);

  // For a client that wants to reach `broker`. It is shown the first certificate that has the name that it asks for
  // (SNI, RFC 6066 section 3), else the first with one of the broker's names, else with the broker's address, else the
  // first of all. Sessions are resumed for ten minutes by tickets under a key of this context; never where clients'
  // certificates are asked for, so that each is checked. kInternal.
  absl::StatusOr<std::unique_ptr<TlsSession>> NewSession(TlsPeer broker) const;

  // The file of a certificate that has expired, or "".
  std::string Expired() const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(STACK_OF(X509) * chain) const { sk_X509_pop_free(chain, X509_free); }
  };
  struct Identity {
    std::string file;
    std::unique_ptr<X509, Free> certificate;
    std::unique_ptr<EVP_PKEY, Free> key;
    std::unique_ptr<STACK_OF(X509), Free> chain;
  };

  TlsServerContext(std::unique_ptr<SSL_CTX, Free> context, std::vector<Identity> identities);
  static absl::StatusOr<Identity> ReadIdentity(const TlsServerFiles::Identity& files);
  static bool Show(const Identity& identity, SSL* ssl);
  static int ChooseIdentity(SSL* ssl, void*);
  const Identity& IdentityFor(const char* askedName, const TlsPeer& broker) const;

  const std::unique_ptr<SSL_CTX, Free> context_;
  const std::vector<Identity> identities_;
};

}  // namespace kveil::io
