// The other end of a TLS connection, as a broker is: OpenSSL on a blocking socket, on a thread of its own.
#pragma once

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <signal.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/unique_fd.h"
#include "certificates.h"

namespace kveil::io {

struct TlsServerOptions {
  TestCertificate certificate;
  std::string clientCa;  // then a client must have a certificate of that authority
  int mostVersion = TLS1_3_VERSION;
};

// What connections to one server share: its sessions can be taken up again.
class TlsServer {
 public:
  explicit TlsServer(const TlsServerOptions& options) : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
    ::signal(SIGPIPE, SIG_IGN);  // a client that refuses the server's certificate is gone
    SSL_CTX* const context = context_.get();
    EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context, options.certificate.certificate.c_str()), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context, options.certificate.key.c_str(), SSL_FILETYPE_PEM), 1);
    SSL_CTX_set_max_proto_version(context, options.mostVersion);
    SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>("test"), 4);
    if (options.clientCa.empty()) return;
    EXPECT_EQ(SSL_CTX_load_verify_file(context, options.clientCa.c_str()), 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }

  // One accepted connection: a handshake, then `serve`. The socket closes at the end.
  class Connection {
   public:
    Connection(SSL_CTX* context, UniqueFd fd, std::function<void(Connection&)> serve)
        : fd_(std::move(fd)), ssl_(SSL_new(context), SSL_free), thread_([this, serve = std::move(serve)] {
            SSL_set_fd(ssl_.get(), fd_.get());
            accepted_ = SSL_accept(ssl_.get()) == 1;
            if (accepted_) serve(*this);
            SSL_shutdown(ssl_.get());
            fd_.Reset();
          }) {}
    ~Connection() { Join(); }
    void Join() {
      if (thread_.joinable()) thread_.join();
    }
    // After Join.
    bool accepted() const { return accepted_; }

    std::string Read(size_t most) {
      std::string bytes(most, '\0');
      size_t count = 0;
      if (SSL_read_ex(ssl_.get(), bytes.data(), most, &count) != 1) count = 0;
      bytes.resize(count);
      return bytes;
    }
    void Write(std::string_view bytes) {
      size_t count;
      if (!bytes.empty()) SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &count);
    }
    SSL* ssl() { return ssl_.get(); }
    int fd() const { return fd_.get(); }

   private:
    UniqueFd fd_;
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
    bool accepted_ = false;
    std::thread thread_;
  };
  std::unique_ptr<Connection> Accept(UniqueFd fd, std::function<void(Connection&)> serve) {
    return std::make_unique<Connection>(context_.get(), std::move(fd), std::move(serve));
  }

 private:
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
};

// Sends back what comes, until the end.
inline void Echo(TlsServer::Connection& connection) {
  for (std::string bytes; !(bytes = connection.Read(100'000)).empty();) connection.Write(bytes);
}

}  // namespace kveil::io
