// One side of TLS on one connection, without a socket: the peer's bytes go in, bytes for the peer come out
// (OpenSSL; TLS 1.2, RFC 5246, and 1.3, RFC 8446). One thread at a time.
#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/socket_address.h"

namespace kveil::io {

class TlsContext;
class TlsServerContext;

// The server that a client must reach, or, for the server's side, the one that it stands for.
struct TlsPeer {
  // The certificate must have one of these names (RFC 6125; ".example" means any name below). Only its alternative
  // names count, not the common name.
  std::vector<std::string> names;
  bool acceptsAddress = false;  // or the address
  std::string sentName;         // sent in the ClientHello (SNI) unless empty
  SocketAddress address;
};

// What a checked certificate says of its owner.
struct TlsOwner {
  std::string subject;     // as SubjectText has it; empty: no certificate was shown
  std::string commonName;  // of the subject, if it has exactly one
};

class TlsSession {
 public:
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Continues the handshake. Returns true when it is done, false if it needs more of the peer's bytes (Feed). In any
  // case, output() may hold bytes to send. kPermissionDenied says why the peer's certificate is refused, kUnavailable
  // what the peer answered.
  absl::StatusOr<bool> Handshake();
  // What messages call the peer.
  std::string_view peerName() const { return isServer_ ? "application" : "broker"; }
  // After the handshake, for the server's side: whose certificate the client has shown.
  TlsOwner ClientCertificate() const;

  // Takes the peer's bytes when Handshake or Read need some. They must stay in place until KeepInput, which copies
  // those not read yet.
  void Feed(Bytes ciphertext);
  void KeepInput();
  // Decrypts into `into`. Returns the number of bytes, 0 at the end of the peer's stream, -EAGAIN if more of its bytes
  // are needed, or -EPROTO if they are not TLS or were tampered with, or if the peer refuses to continue: problem()
  // says why.
  int Read(MutableBytes into);
  const std::string& problem() const { return problem_; }
  // Whether the peer refused to continue before it sent anything. With TLS 1.3, it answers a certificate that it does
  // not accept only after the handshake.
  bool refused() const { return !problem_.empty() && !hasRead_; }
  // Whether Read may continue without Feed.
  bool hasInput() const { return !input_.empty() || SSL_pending(ssl_.get()) > 0; }

  // Appends the ciphertext of `plaintext` to output(), one record per kRecordSize bytes and one for the rest. Returns
  // false, and appends nothing, if more of the peer's bytes must be read first because half a message of TLS itself has
  // come. kUnavailable: the connection can no longer be used.
  absl::StatusOr<bool> Write(Bytes plaintext);
  static constexpr size_t kRecordSize = 16 << 10;
  // Appends the end of the stream to output(), on the first call only. Reading continues.
  void WriteEnd();

  // Bytes for the peer. The caller sends and clears them.
  ByteBuffer& output() { return output_; }
  // The memory that ciphertext takes now, in bytes.
  size_t heldBytes() const { return keptInput_.capacity() + output_.capacity(); }

  // After the handshake: the version ("TLSv1.3"), and whether an earlier session was resumed.
  std::string Version() const { return SSL_get_version(ssl_.get()); }
  bool holdsKey() const { return SSL_get_privatekey(ssl_.get()) != nullptr; }  // a private one
  bool resumed() const { return SSL_session_reused(ssl_.get()) == 1; }

 private:
  friend class TlsContext;
  friend class TlsServerContext;
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  using Clock = std::chrono::steady_clock;
  // `checkedAt`: when the handshake that began the session checked the peer's certificate.
  TlsSession(std::shared_ptr<TlsContext> context, std::unique_ptr<SSL, Free> ssl, TlsPeer peer,
             Clock::time_point checkedAt);
  // The server's side.
  TlsSession(std::shared_ptr<const TlsServerContext> context, std::unique_ptr<SSL, Free> ssl, TlsPeer peer);
  void Attach();
  absl::Status CheckHandshakeSize() const;
  void CountMessage();

  static BIO_METHOD* Method();
  static int BioRead(BIO* bio, char* into, int size);
  static int BioWrite(BIO* bio, const char* from, int size);
  static long BioControl(BIO* bio, int command, long number, void* pointer);

  const std::shared_ptr<TlsContext> context_;  // the client's
  // The server's, until the handshake is done: it holds private keys, which end when they are replaced.
  std::shared_ptr<const TlsServerContext> serverContext_;
  const bool isServer_;
  const std::unique_ptr<SSL, Free> ssl_;
  const TlsPeer peer_;
  const Clock::time_point checkedAt_;
  bool ended_ = false;        // by us
  bool hasRead_ = false;      // plaintext
  size_t fed_ = 0;            // bytes, before the end of the handshake
  bool hasAnswered_ = false;  // anything
  size_t messages_ = 0;       // of TLS itself, from the client, since it last sent anything else
  std::string problem_;
  Bytes input_;           // fed and not read yet
  ByteBuffer keptInput_;  // holds input_ once it must outlive Feed's caller
  ByteBuffer output_;
};

}  // namespace kveil::io
