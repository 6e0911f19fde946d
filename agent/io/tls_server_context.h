// The server's side of TLS: the certificates to show, and whose certificates are asked for and checked.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
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
  // first of all. One that has expired comes after all others with the same. Of certificates with different kinds of
  // keys (ECDSA, RSA), it is shown the one that it prefers. Sessions are resumed for ten minutes by tickets under a key
  // of this context; never where clients' certificates are asked for, so that each is checked. kInternal.
  absl::StatusOr<std::unique_ptr<TlsSession>> NewSession(TlsPeer broker) const;

  // The same certificates with another key for tickets. Reads no file. kInternal.
  absl::StatusOr<std::shared_ptr<const TlsServerContext>> Renewed() const;

  // "" if every certificate of every file is valid now, or the file in which one is not, and why.
  std::string Outdated() const;

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(STACK_OF(X509) * chain) const { sk_X509_pop_free(chain, X509_free); }
  };
  using Certificate = std::unique_ptr<X509, Free>;
  struct Identity {
    Certificate certificate;
    std::unique_ptr<EVP_PKEY, Free> key;
    std::unique_ptr<STACK_OF(X509), Free> chain;
    time_t from, until;  // the certificate is valid
  };
  struct Validity {  // of one certificate
    std::string file;
    time_t from, until;
  };
  // What was read from the files.
  struct Material {
    std::vector<Identity> identities;
    absl::flat_hash_map<std::string, std::vector<size_t>> byName;  // indices of identities; names as in certificates
    std::vector<Certificate> authorities;                          // of clients' certificates
    std::vector<Validity> validities;
    bool needsCertificate = false;
    bool version12 = true;
  };

  TlsServerContext(std::unique_ptr<SSL_CTX, Free> context, std::shared_ptr<const Material> material);
  static absl::StatusOr<std::vector<Certificate>> ReadCertificates(const std::string& path, Material& material);
  static absl::StatusOr<Identity> ReadIdentity(const TlsServerFiles::Identity& files, Material& material);
  static absl::StatusOr<std::shared_ptr<const TlsServerContext>> Make(std::shared_ptr<const Material> material);
  static absl::Status AskForCertificates(SSL_CTX* context, const Material& material);
  static bool Show(const Identity& identity, SSL* ssl);
  static int ChooseIdentity(SSL* ssl, void*);
  static void OnMessage(int isWritten, int version, int contentType, const void* bytes, size_t size, SSL* ssl, void*);
  std::vector<size_t> Named(const std::vector<std::string>& names) const;
  std::vector<const Identity*> OneOfEachKind(const std::vector<size_t>& among) const;
  std::vector<const Identity*> IdentitiesFor(const char* askedName, const TlsPeer& broker) const;

  const std::unique_ptr<SSL_CTX, Free> context_;
  const std::shared_ptr<const Material> material_;
};

}  // namespace kveil::io
