// A stream socket of one loop. At most one coroutine reads (Readable, Recv) and one writes (Connect, SendAll) at
// a time.
//
// What an operation refers to (this object, the caller's buffer and slices) stays until the operation has ended, and it
// has ended only when the awaiting coroutine goes on: Cancel asks for that and does not wait, Close waits for it.
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
  // Takes the descriptor's O_NONBLOCK away: the ring waits by itself, and would not if it were set.
  Socket(Loop& loop, UniqueFd fd);
  // Nothing may be pending: call Close first.
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_.get(); }

  // kUnavailable with errno's text when the peer refuses or is not reached, kDeadlineExceeded, kCancelled: then close
  // it.
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
  // Waits, without a buffer, until there are bytes, the end of the stream or an error to be received.
  // kDeadlineExceeded, kCancelled.
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
  // What is there now: a number of bytes, 0 at the end of the stream, -EAGAIN when there is nothing, another -errno
  // when the connection broke, -ECANCELED. -ENOBUFS when `into` is empty.
  RecvAwaiter Recv(MutableBytes into) { return RecvAwaiter(*this, into); }
  // Whether the last Recv left something behind (bytes or the end of the stream): then Recv again without Readable.
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
  // Sends all slices, any number of them; their bytes stay where they are until then. kUnavailable when the connection
  // broke, kDeadlineExceeded, kCancelled: then an unknown part has been sent.
  SendAwaiter SendAll(absl::Span<const iovec> slices, Deadline deadline) {
    return SendAwaiter(*this, slices, deadline);
  }

  // By all sends so far, also by one that has not ended.
  uint64_t bytesSent() const { return bytesSent_; }

  // The peer sees the end of the stream after what has been sent; receiving goes on.
  void ShutdownWrite() { ::shutdown(fd_.get(), SHUT_WR); }
  // What is pending ends with kCancelled, and so does what is begun later.
  void Cancel();
  bool cancelled() const { return cancelled_; }
  // Close will reset the connection instead of ending it in order.
  void AbortOnClose();
  // Cancels, waits until the kernel is done with everything that was pending, and closes. Who waited goes on before
  // this does. May be called again when it has ended.
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
    // False when there is not a byte to be sent.
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
