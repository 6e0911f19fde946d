// A stream socket of one loop. At most one coroutine reads (Readable, Recv) and one writes (Connect, SendAll) at a
// time.
//
// Everything an operation refers to (this object, the caller's buffer and slices) must live until the operation has
// ended, that is, until the awaiting coroutine resumes. Cancel asks for the end without waiting; Close waits for it.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <coroutine>
#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "io/loop.h"
#include "io/operation.h"
#include "io/task.h"

namespace kveil::io {

class Socket {
 public:
  // Clears the descriptor's O_NONBLOCK, with which the ring would not wait.
  Socket(Loop& loop, UniqueFd fd);
  // Nothing may be pending: call Close first.
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_.get(); }

  // kUnavailable, with errno's text: the peer refuses or is not reached. kDeadlineExceeded. kCancelled. After an error,
  // close the socket.
  Task<absl::Status> Connect(SocketAddress address, Deadline deadline);

  class ReadableAwaiter {
   public:
    ReadableAwaiter(Socket& socket, Deadline deadline) : socket_(socket), deadline_(deadline) {}
    bool await_ready() const { return socket_.cancelled_; }
    void await_suspend(std::coroutine_handle<> coroutine);
    absl::Status await_resume() const { return socket_.Outcome(socket_.read_); }

   private:
    Socket& socket_;
    Deadline deadline_;
  };
  // Waits, without holding a buffer, until there are bytes, the end of the stream or an error to receive.
  // kDeadlineExceeded. kCancelled.
  ReadableAwaiter Readable(Deadline deadline) { return ReadableAwaiter(*this, deadline); }

  class RecvAwaiter {
   public:
    RecvAwaiter(Socket& socket, MutableBytes into) : socket_(socket), into_(into) {}
    bool await_ready() const { return socket_.cancelled_ || into_.empty(); }
    void await_suspend(std::coroutine_handle<> coroutine);
    int await_resume() const;

   private:
    Socket& socket_;
    MutableBytes into_;
  };
  // Receives what is there now. Returns the number of bytes, 0 at the end of the stream, -EAGAIN if nothing is there,
  // -ENOBUFS if `into` is empty, -ECANCELED, or another -errno if the connection broke.
  RecvAwaiter Recv(MutableBytes into) { return RecvAwaiter(*this, into); }
  // Whether the last Recv left something (bytes or the end of the stream). If so, Recv again without Readable.
  bool more() const;

  class SendAwaiter {
   public:
    SendAwaiter(Socket& socket, absl::Span<const iovec> slices, Deadline deadline)
        : socket_(socket), slices_(slices), deadline_(deadline) {}
    bool await_ready() { return socket_.cancelled_ || !socket_.write_.TakeSlices(slices_); }
    void await_suspend(std::coroutine_handle<> coroutine);
    absl::Status await_resume() const;

   private:
    Socket& socket_;
    absl::Span<const iovec> slices_;
    Deadline deadline_;
  };
  // Sends all slices, any number of them. Their bytes must stay in place until then. kUnavailable: the connection
  // broke. kDeadlineExceeded. kCancelled. After an error, an unknown part has been sent.
  SendAwaiter SendAll(absl::Span<const iovec> slices, Deadline deadline) {
    return SendAwaiter(*this, slices, deadline);
  }

  // By all sends so far, including one in progress.
  uint64_t bytesSent() const { return bytesSent_; }

  // Ends the stream to the peer after what has been sent. Receiving continues.
  void ShutdownWrite() { ::shutdown(fd_.get(), SHUT_WR); }
  // Pending operations end with kCancelled, and so do later ones.
  void Cancel();
  bool cancelled() const { return cancelled_; }
  // Makes Close reset the connection instead of ending it in order.
  void AbortOnClose();
  // Cancels, waits until the kernel is done with all pending operations, and closes. Coroutines that waited resume
  // first. May be called again once it has ended.
  Task<void> Close();

 private:
  class ReadOperation final : public Operation {
   public:
    enum class Kind { kPoll, kReceive };
    explicit ReadOperation(Socket& socket) : socket_(socket) {}
    void Prepare(io_uring_sqe& entry) override;
    void OnEnd() override { socket_.OnOperationEnd(); }

    Kind kind = Kind::kPoll;
    MutableBytes into;

   private:
    Socket& socket_;
  };

  class WriteOperation final : public Operation {
   public:
    enum class Kind { kConnect, kSend };
    explicit WriteOperation(Socket& socket) : socket_(socket) {}
    void Prepare(io_uring_sqe& entry) override;
    bool OnCompletion() override;
    void OnEnd() override { socket_.OnOperationEnd(); }
    // False if there is nothing to send.
    bool TakeSlices(absl::Span<const iovec> slices);
    bool done() const { return firstUnsent_ == unsent_.size(); }

    Kind kind = Kind::kSend;
    const SocketAddress* address = nullptr;

   private:
    Socket& socket_;
    std::vector<iovec> unsent_;
    size_t firstUnsent_ = 0;
    msghdr message_{};
  };

  class ConnectAwaiter;
  class IdleAwaiter;

  void StartReading(ReadOperation::Kind kind, MutableBytes into, Deadline deadline, std::coroutine_handle<> coroutine);
  void StartWriting(WriteOperation::Kind kind, Deadline deadline, std::coroutine_handle<> coroutine);
  absl::Status Outcome(const Operation& operation) const;
  bool pending() const { return read_.pending() || write_.pending(); }
  void OnOperationEnd();

  Loop& loop_;
  UniqueFd fd_;
  bool cancelled_ = false;
  bool abortOnClose_ = false;
  uint64_t bytesSent_ = 0;
  ReadOperation read_{*this};
  WriteOperation write_{*this};
  Waiter closing_;
};

}  // namespace kveil::io
