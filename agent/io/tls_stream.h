// A TLS session over a socket. The socket's owner connects, waits (Socket::Readable) and closes; this receives and
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
#include "io/loop.h"
#include "io/mutex.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/tls_session.h"

namespace kveil::io {

// The handshakes of one loop that others can begin at will. A step may make a signature, which takes milliseconds:
// there is at most one in a turn of the loop, and afterwards as much time goes to everything else.
struct HandshakePace {
  explicit HandshakePace(Loop& loop) : loop(loop) {}
  Loop& loop;
  Mutex step;
  Deadline notBefore;  // may the next begin
};

class TlsStream {
 public:
  TlsStream(Socket& socket, std::unique_ptr<TlsSession> session) : socket_(socket), session_(std::move(session)) {}

  // kPermissionDenied: the peer's certificate is refused. kUnavailable: the connection broke, or the peer refused
  // something. kDeadlineExceeded. kCancelled. With `pace`, each step waits for its turn, even beyond the deadline.
  Task<absl::Status> Handshake(Deadline deadline, HandshakePace* pace = nullptr);

  // Like Socket::Recv, without suspending. Also returns -EAGAIN while a record is incomplete, and -EPROTO as
  // TlsSession::Read.
  int Recv(MutableBytes into);
  // Whether Recv may return something although the socket is not readable.
  bool hasInput() const { return end_.has_value() || session_->hasInput(); }

  // By Recv, with what TLS adds.
  uint64_t bytesReceived() const { return bytesReceived_; }

  // Like Socket::SendAll. May wait until another coroutine calls Recv or StopWaiting.
  Task<absl::Status> SendAll(absl::Span<const iovec> slices, Deadline deadline);
  // Says that nobody will call Recv any more.
  void StopWaiting();
  // After SendAll has failed: what the peer said before it sent anything else, or empty.
  std::string Refusal();
  // Tells the peer that the stream ends, if the socket takes that at once. No send may be in progress.
  void End();

  const TlsSession& session() const { return *session_; }

 private:
  Task<absl::StatusOr<bool>> Step(Deadline deadline, HandshakePace* pace);
  Task<absl::Status> SendOutput(Deadline deadline);
  Task<absl::Status> WriteAfterRecv(ByteBuffer record, Deadline deadline);

  Socket& socket_;
  const std::unique_ptr<TlsSession> session_;
  std::optional<int> end_;  // what Recv returns from now on: 0 or an error
  uint64_t bytesReceived_ = 0;
  Event received_;  // something, or nothing will be received any more
  bool stopped_ = false;
};

}  // namespace kveil::io
