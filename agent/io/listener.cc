#include "io/listener.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "io/bug.h"

namespace kveil::io {
namespace {

// How long to wait for descriptors that have run out.
constexpr std::chrono::milliseconds kRetryDelay{100};

}  // namespace

Listener::Listener(Loop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) != 0) ::fcntl(fd_.get(), F_SETFL, flags & ~O_NONBLOCK);
}

Listener::~Listener() {
  internal::Require(!accept_.pending() && !accepting_, "a listener was destroyed while it accepted");
}

void Listener::AcceptOperation::Prepare(io_uring_sqe& entry) {
  io_uring_prep_multishot_accept(&entry, listener_.fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
}

bool Listener::AcceptOperation::OnCompletion() {
  if (result() >= 0) {
    listener_.accepted_.emplace_back(result());
  } else if (result() != -ECANCELED) {
    listener_.error_ = -result();
  }
  listener_.changed_.Set();
  return false;
}

absl::Status Listener::TakeError() {
  const int error = std::exchange(error_, 0);
  retryAt_ = std::chrono::steady_clock::now() + kRetryDelay;
  if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
    return absl::ResourceExhaustedError(std::strerror(error));
  }
  return absl::UnavailableError(std::strerror(error));
}

Task<absl::StatusOr<UniqueFd>> Listener::Accept() {
  internal::Require(!accepting_, "two coroutines accept from one listener");
  accepting_ = true;
  absl::StatusOr<UniqueFd> accepted = absl::CancelledError("cancelled");
  while (!cancelled_) {
    if (!accepted_.empty()) {
      accepted = std::move(accepted_.front());
      accepted_.pop_front();
      break;
    }
    if (error_ != 0) {
      accepted = TakeError();
      break;
    }
    const Deadline now = std::chrono::steady_clock::now();
    if (now < retryAt_) {
      co_await loop_.Sleep(retryAt_ - now);
      continue;
    }
    if (!accept_.pending()) loop_.Submit(accept_, Deadline::max());
    changed_.Reset();
    co_await changed_.Wait();
  }
  accepting_ = false;
  changed_.Set();
  co_return accepted;
}

void Listener::Cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  accepted_.clear();
  loop_.Cancel(accept_);
  changed_.Set();
}

// The listening socket goes last: a cancelled request still lets the kernel take connections that nobody would serve.
Task<void> Listener::Close() {
  if (!fd_.valid()) co_return;
  Cancel();
  while (accept_.pending() || accepting_) {
    changed_.Reset();
    co_await changed_.Wait();
  }
  accepted_.clear();
  fd_.Reset();
}

}  // namespace kveil::io
