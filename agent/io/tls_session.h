// TLS of one connection, on its client's side, without a socket: what the peer sent goes in, what it is to be sent
// comes out (OpenSSL; TLS 1.2, RFC 5246, and 1.3, RFC 8446). One thread at a time.
#pragma once

#include <openssl/ssl.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/socket_address.h"

namespace kveil::io {

class TlsContext;

// Whom a connection is to reach.
struct TlsPeer {
  // Names of which the certificate must have one (RFC 6125; ".example" means any name below). Only its alternative
  // names count, not the common name.
  std::vector<std::string> names;
  bool acceptsAddress = false;  // or the address
  std::string sentName;         // in the greeting (SNI), when not empty
  SocketAddress address;
};

class TlsSession {
 public:
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Goes on with the handshake after Feed: true when it is done, false when more of the peer's bytes are needed. In all
  // cases output() may hold something to be sent. An error says why the peer is not accepted, or what it answered.
  absl::StatusOr<bool> Handshake();

  // Bytes from the peer, when Handshake or Read need some; what those leave of them must be kept with KeepInput.
  void Feed(Bytes ciphertext);
  void KeepInput();
  // Plaintext into `into`: a number of bytes, 0 when the peer has ended the stream, -EAGAIN when more of its bytes are
  // needed, -EPROTO when what came is not TLS or was tampered with, or the peer refuses to go on: problem() says why.
  int Read(MutableBytes into);
  const std::string& problem() const { return problem_; }
  // Whether the peer refused to go on before it had sent anything: with TLS 1.3, its answer to a certificate that it
  // does not accept comes after the handshake.
  bool refused() const { return !problem_.empty() && !hasRead_; }
  // Whether Read may go on without Feed.
  bool hasInput() const { return !input_.empty() || SSL_pending(ssl_.get()) > 0; }

  // Adds the ciphertext of `plaintext` to output(), a record for each kRecordSize bytes and one for the rest. False
  // when more of the peer's bytes must be read before, as half a message of TLS itself has come: nothing has been
  // added.
  absl::StatusOr<bool> Write(Bytes plaintext);
  static constexpr size_t kRecordSize = 16 << 10;
  // Adds the end of the stream to output(), the first time; reading goes on.
  void WriteEnd();

  // What is to be sent to the peer; whoever has sent it clears it.
  ByteBuffer& output() { return output_; }
  // The memory that ciphertext takes now.
  size_t heldBytes() const { return keptInput_.capacity() + output_.capacity(); }

  // After the handshake: "TLSv1.3" or the like, and whether an earlier session was taken up again.
  std::string Version() const { return SSL_get_version(ssl_.get()); }
  bool resumed() const { return SSL_session_reused(ssl_.get()) == 1; }

 private:
  friend class TlsContext;
  struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  using Clock = std::chrono::steady_clock;
  // `checkedAt`: when the peer's certificate was, in the handshake that began the session to be taken up again.
  TlsSession(std::shared_ptr<TlsContext> context, std::unique_ptr<SSL, Free> ssl, TlsPeer peer,
             Clock::time_point checkedAt);

  static BIO_METHOD* Method();
  static int BioRead(BIO* bio, char* into, int size);
  static int BioWrite(BIO* bio, const char* from, int size);
  static long BioControl(BIO* bio, int command, long number, void* pointer);

  const std::shared_ptr<TlsContext> context_;
  const std::unique_ptr<SSL, Free> ssl_;
  const TlsPeer peer_;
  const Clock::time_point checkedAt_;
  bool ended_ = false;    // by us
  bool hasRead_ = false;  // plaintext
  std::string problem_;
  Bytes input_;           // what was fed and not read yet
  ByteBuffer keptInput_;  // where input_ lies when it has outlived Feed's caller
  ByteBuffer output_;
};

}  // namespace kveil::io
