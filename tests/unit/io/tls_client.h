// The client's end of a TLS connection, as an application is: OpenSSL on a blocking socket.
#pragma once

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "certificates.h"

namespace kveil::io {

struct TlsClientOptions {
  std::string ca;               // whom it trusts; empty: everybody
  std::string sentName;         // asked for (SNI); empty: none
  TestCertificate certificate;  // shown when it is asked for one; empty: none
  int mostVersion = TLS1_3_VERSION;
  SSL_SESSION* resumed = nullptr;
  std::string signatures = "";  // that it takes, as OpenSSL writes them; empty: OpenSSL's own list
  std::string ciphers = "";     // of TLS 1.2, the same
  std::string protocols = "";   // offered by ALPN (RFC 7301), each behind a byte with its length; empty: none
};

class TlsClient {
 public:
  explicit TlsClient(UniqueFd fd, const TlsClientOptions& options = {})
      : fd_(std::move(fd)), context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    ::signal(SIGPIPE, SIG_IGN);
    SSL_CTX_set_max_proto_version(context_.get(), options.mostVersion);
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (!options.signatures.empty()) {
      EXPECT_EQ(SSL_CTX_set1_sigalgs_list(context_.get(), options.signatures.c_str()), 1);
    }
    if (!options.ciphers.empty()) {
      EXPECT_EQ(SSL_CTX_set_cipher_list(context_.get(), options.ciphers.c_str()), 1);
    }
    if (!options.protocols.empty()) {
      const Bytes list = AsBytes(options.protocols);
      EXPECT_EQ(SSL_CTX_set_alpn_protos(context_.get(), list.data(), static_cast<unsigned>(list.size())), 0);
    }
    if (!options.ca.empty()) {
      EXPECT_EQ(SSL_CTX_load_verify_file(context_.get(), options.ca.c_str()), 1);
      SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    }
    if (!options.certificate.certificate.empty()) {
      EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context_.get(), options.certificate.certificate.c_str()), 1);
      EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_.get(), options.certificate.key.c_str(), SSL_FILETYPE_PEM), 1);
    }
    ssl_.reset(SSL_new(context_.get()));
    if (!options.sentName.empty()) SSL_set_tlsext_host_name(ssl_.get(), options.sentName.c_str());
    if (options.resumed != nullptr) SSL_set_session(ssl_.get(), options.resumed);
    SSL_set_fd(ssl_.get(), fd_.get());
  }

  // "" when the handshake is done, or why it failed.
  std::string Connect() {
    const bool done = Try([this] { return SSL_connect(ssl_.get()); });
    return done ? "" : Reason();
  }
  bool Write(std::string_view bytes) {
    size_t count = 0;
    return Try([&] { return SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &count); });
  }
  // Exactly that much; fewer when the stream ends before. The reason is then in `ended`.
  std::string Read(size_t size) {
    std::string bytes(size, '\0');
    size_t have = 0, count = 0;
    while (have < size && Try([&] { return SSL_read_ex(ssl_.get(), bytes.data() + have, size - have, &count); })) {
      have += count;
    }
    if (have < size) ended = SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN ? "in order" : Reason();
    bytes.resize(have);
    return bytes;
  }
  void End() { SSL_shutdown(ssl_.get()); }
  // What the server has chosen of the protocols that were offered; empty: none.
  std::string Protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return std::string(AsText(Bytes(name, size)));
  }
  // The common name of the certificate that the server has shown.
  std::string ServerName() const {
    char name[256] = "";
    X509* const certificate = SSL_get0_peer_certificate(ssl_.get());
    if (certificate != nullptr) {
      X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name));
    }
    return name;
  }
  SSL* ssl() { return ssl_.get(); }
  int fd() const { return fd_.get(); }
  void Close() { fd_.Reset(); }

  std::string ended;

 private:
  // Again where it was interrupted, as calls of a process with io_uring may be: OpenSSL then says that it wants more.
  template <typename Operation>
  bool Try(Operation operation) {
    for (;;) {
      ERR_clear_error();
      const int result = operation();
      if (result == 1) return true;
      const int error = SSL_get_error(ssl_.get(), result);
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return false;
    }
  }
  static std::string Reason() {
    const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != nullptr ? reason : "broken";
  }

  UniqueFd fd_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
};

}  // namespace kveil::io
