#include "io/socket.h"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/bug.h"

namespace kveil::io {
namespace {

constexpr size_t kMostSlices = 1024;     // UIO_MAXIOV: the kernel takes no more in one call
constexpr size_t kMostBytes = 1u << 30;  // of one receive; the kernel's limit is a little below 2 GiB

}  // namespace

Socket::Socket(Loop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) != 0) ::fcntl(fd_.get(), F_SETFL, flags & ~O_NONBLOCK);
}

Socket::~Socket() { internal::Require(!pending(), "a socket was destroyed while an operation on it was pending"); }

absl::Status Socket::Outcome(const Operation& operation) const {
  if (cancelled_) return absl::CancelledError("cancelled");
  const int result = operation.result();
  if (result >= 0) return absl::OkStatus();
  if (operation.timedOut()) return absl::DeadlineExceededError("timed out");
  if (result == -ECANCELED) return absl::CancelledError("cancelled");
  return absl::UnavailableError(std::strerror(-result));
}

// Reading.

void Socket::ReadOperation::Prepare(io_uring_sqe& entry) {
  switch (kind) {
    case Kind::kPoll:
      return io_uring_prep_poll_add(&entry, socket_.fd(), POLLIN);
    case Kind::kReceive:
      return io_uring_prep_recv(&entry, socket_.fd(), into.data(), std::min(into.size(), kMostBytes), MSG_DONTWAIT);
  }
}

void Socket::StartReading(ReadOperation::Kind kind, MutableBytes into, Deadline deadline,
                          std::coroutine_handle<> coroutine) {
  internal::Require(!read_.pending(), "two coroutines read from one socket");
  read_.kind = kind;
  read_.into = into;
  read_.waiter.coroutine = coroutine;
  loop_.Submit(read_, deadline);
}

void Socket::ReadableAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  socket_.StartReading(ReadOperation::Kind::kPoll, MutableBytes(), deadline_, coroutine);
}

void Socket::RecvAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  socket_.StartReading(ReadOperation::Kind::kReceive, into_, Deadline::max(), coroutine);
}

int Socket::RecvAwaiter::await_resume() const {
  if (socket_.cancelled_) return -ECANCELED;
  return into_.empty() ? -ENOBUFS : socket_.read_.result();
}

bool Socket::more() const { return (read_.flags() & IORING_CQE_F_SOCK_NONEMPTY) != 0; }

// Writing.

bool Socket::WriteOperation::TakeSlices(absl::Span<const iovec> slices) {
  internal::Require(!pending(), "two coroutines write to one socket");
  unsent_.clear();
  firstUnsent_ = 0;
  for (const iovec& slice : slices) {
    if (slice.iov_len > 0) unsent_.push_back(slice);
  }
  return !unsent_.empty();
}

void Socket::WriteOperation::Prepare(io_uring_sqe& entry) {
  if (kind == Kind::kConnect) {
    return io_uring_prep_connect(&entry, socket_.fd(), address->get(), address->size());
  }
  message_.msg_iov = unsent_.data() + firstUnsent_;
  message_.msg_iovlen = std::min(unsent_.size() - firstUnsent_, kMostSlices);
  // No MSG_WAITALL: on an accelerated hop it corrupts the stream, and short sends are no dearer.
  io_uring_prep_sendmsg(&entry, socket_.fd(), &message_, MSG_NOSIGNAL);
}

bool Socket::WriteOperation::OnCompletion() {
  if (kind == Kind::kConnect) return false;
  if (result() == -EINTR) return !timedOut() && !socket_.cancelled_;
  if (result() < 0) return false;
  auto sent = static_cast<size_t>(result());
  socket_.bytesSent_ += sent;
  while (sent > 0) {
    iovec& slice = unsent_[firstUnsent_];
    const size_t taken = std::min(sent, slice.iov_len);
    slice.iov_base = static_cast<uint8_t*>(slice.iov_base) + taken;
    slice.iov_len -= taken;
    sent -= taken;
    if (slice.iov_len == 0) ++firstUnsent_;
  }
  return !done() && !timedOut() && !socket_.cancelled_;
}

void Socket::StartWriting(WriteOperation::Kind kind, Deadline deadline, std::coroutine_handle<> coroutine) {
  internal::Require(!write_.pending(), "two coroutines write to one socket");
  write_.kind = kind;
  write_.waiter.coroutine = coroutine;
  loop_.Submit(write_, deadline);
}

void Socket::SendAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  socket_.StartWriting(WriteOperation::Kind::kSend, deadline_, coroutine);
}

absl::Status Socket::SendAwaiter::await_resume() const {
  if (!socket_.cancelled_ && socket_.write_.done()) return absl::OkStatus();
  const absl::Status outcome = socket_.Outcome(socket_.write_);
  // The last send was short, and then the deadline had passed.
  return outcome.ok() ? absl::DeadlineExceededError("timed out") : outcome;
}

class Socket::ConnectAwaiter {
 public:
  ConnectAwaiter(Socket& socket, const SocketAddress& address, Deadline deadline)
      : socket_(socket), address_(address), deadline_(deadline) {}
  bool await_ready() const { return socket_.cancelled_; }
  void await_suspend(std::coroutine_handle<> coroutine) {
    socket_.write_.address = &address_;
    socket_.StartWriting(WriteOperation::Kind::kConnect, deadline_, coroutine);
  }
  absl::Status await_resume() const { return socket_.Outcome(socket_.write_); }

 private:
  Socket& socket_;
  const SocketAddress& address_;
  Deadline deadline_;
};

Task<absl::Status> Socket::Connect(SocketAddress address, Deadline deadline) {
  ConnectAwaiter connecting(*this, address, deadline);
  co_return co_await connecting;
}

// Ending.

void Socket::Cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  loop_.Cancel(read_);
  loop_.Cancel(write_);
}

void Socket::AbortOnClose() {
  abortOnClose_ = true;
  const linger reset{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

class Socket::IdleAwaiter {
 public:
  explicit IdleAwaiter(Socket& socket) : socket_(socket) {}
  bool await_ready() const { return !socket_.pending(); }
  void await_suspend(std::coroutine_handle<> coroutine) { socket_.closing_.coroutine = coroutine; }
  void await_resume() {}

 private:
  Socket& socket_;
};

void Socket::OnOperationEnd() {
  if (closing_.coroutine && !pending()) ReadyQueue::Current().Push(closing_);
}

// Close alone would neither end what is pending nor send the end of the stream, and the descriptor's number would go to
// somebody else while operations still refer to it.
Task<void> Socket::Close() {
  if (!fd_.valid()) co_return;
  Cancel();
  if (!abortOnClose_) ::shutdown(fd_.get(), SHUT_RDWR);
  IdleAwaiter idle(*this);
  co_await idle;
  fd_.Reset();
}

}  // namespace kveil::io
