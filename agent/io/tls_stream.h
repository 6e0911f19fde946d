// A TLS session over a socket: the socket's owner connects, waits (Socket::Readable) and closes, this receives and
// sends.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "io/event.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/tls_session.h"

namespace kveil::io {

class TlsStream {
 public:
  TlsStream(Socket& socket, std::unique_ptr<TlsSession> session) : socket_(socket), session_(std::move(session)) {}

  // kPermissionDenied: the peer's certificate is refused; kUnavailable: the connection broke, or the peer refused
  // something; kDeadlineExceeded, kCancelled.
  Task<absl::Status> Handshake(Deadline deadline);

  // As Socket::Recv, without waiting: -EAGAIN also when what has come is no whole record yet.
  int Recv(MutableBytes into);
  // Whether Recv has something, or may have, although the socket is not readable.
  bool hasInput() const { return end_.has_value() || session_->hasInput(); }

  // As Socket::SendAll. May have to wait for Recv, by somebody else, or StopWaiting.
  Task<absl::Status> SendAll(absl::Span<const iovec> slices, Deadline deadline);
  // Recv is not called any more.
  void StopWaiting();
  // When SendAll has failed: what the peer said before it had sent anything else, or empty.
  std::string Refusal();
  // Tells the peer that the stream ends, as far as the socket takes it at once; nothing may be being sent.
  void End();

  const TlsSession& session() const { return *session_; }

 private:
  Task<absl::Status> SendOutput(Deadline deadline);
  Task<absl::Status> WriteAfterRecv(ByteBuffer record, Deadline deadline);

  Socket& socket_;
  const std::unique_ptr<TlsSession> session_;
  std::optional<int> end_;  // what Recv gives from now on: 0 or an error
  Event received_;          // something, or nothing will be any more
  bool stopped_ = false;
};

}  // namespace kveil::io
