// What comes before requests and responses: who the application is, and the way to the broker.
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "proxy/connection.h"
#include "proxy/foreign_bytes.h"

namespace kveil::proxy {
namespace {

constexpr size_t kMostHandshakes = 16;          // of one workload at a worker
constexpr size_t kHandshakeMemory = 384 << 10;  // bytes, with its certificates as decoded (io/tls_session.cc)
// After a handshake has failed.
constexpr std::chrono::seconds kTimeToRead{1};
constexpr size_t kMostThrownAway = 256 << 10;  // bytes

}  // namespace

// Fails with endReason_ and result_ set.
io::Task<absl::Status> Connection::Open() {
  auto meeting = MeetApplication();
  const absl::Status met = co_await std::move(meeting);
  if (!met.ok()) co_return met;
  auto connecting = ConnectUpstream();
  co_return co_await std::move(connecting);
}

// With kRefuse the first request tells that it is none.
io::Task<absl::Status> Connection::MeetApplication() {
  if (clientTls_ == ClientTls::kRefuse) co_return absl::OkStatus();
  uint8_t first = 0;
  ssize_t come = -1;
  while (come < 0) {
    const absl::Status readable = co_await application_.Readable(io::Deadline::max());
    if (!readable.ok()) co_return readable;
    come = ::recv(application_.fd(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (come < 0 && errno != EAGAIN && errno != EINTR) co_return absl::UnavailableError("the connection broke");
  }
  if (come == 0 || !BeginsTls(Bytes(&first, 1))) {
    if (clientTls_ != ClientTls::kRequire) co_return absl::OkStatus();
    if (come == 0) co_return absl::UnavailableError("the application has ended");
    co_return FailTls(observe::ConnectionResult::kClientTlsFailed,
                      absl::PermissionDeniedError("it speaks none, but must show a certificate"));
  }
  if (clientTls_ == ClientTls::kPass) {
    PassUntouched();
    co_return absl::OkStatus();
  }
  auto greeting = GreetApplication();
  co_return co_await std::move(greeting);
}

// Each handshake takes memory of the workload's share. The first one gets it in any case, so that every workload gets
// on, and whoever waits is woken by those before it.
bool Connection::TryTakeHandshakePlace() {
  if (share_->handshakes == 0) {
    parts_.budget.AcquireOwedAnyway(kHandshakeMemory);
  } else if (share_->handshakes >= kMostHandshakes ||
             !IsWithinShare(share_->bytes, kHandshakeMemory, parts_.budget.free()) ||
             !parts_.budget.TryAcquireOwed(kHandshakeMemory)) {
    return false;
  }
  share_->bytes += kHandshakeMemory;
  ++share_->handshakes;
  return true;
}

void Connection::LeaveHandshakePlace() {
  --share_->handshakes;
  share_->bytes -= kHandshakeMemory;
  parts_.budget.ReleaseOwed(kHandshakeMemory);
  if (share_->waiting > 0) share_->changed.Set();
  if (!share_->waitingToGreet.empty()) share_->waitingToGreet.front()->Set();
}

// Waits until the workload has fewer handshakes under way than it may have, in the order of arrival.
io::Task<absl::Status> Connection::TakeHandshakePlace() {
  if (share_->waitingToGreet.empty() && TryTakeHandshakePlace()) co_return absl::OkStatus();
  const io::Deadline deadline = std::chrono::steady_clock::now() + parts_.limits.connectTimeout;
  const auto place = share_->waitingToGreet.insert(share_->waitingToGreet.end(), &mayGreet_);
  parts_.metrics.HandshakeWaits(1);
  awaitsHandshake_ = true;
  const absl::Cleanup leave = [this, place] {
    awaitsHandshake_ = false;
    parts_.metrics.HandshakeWaits(-1);
    share_->waitingToGreet.erase(place);
    if (!share_->waitingToGreet.empty()) share_->waitingToGreet.front()->Set();  // there may be room for it, too
  };
  for (;;) {
    if (application_.cancelled() || draining_) co_return absl::CancelledError("cancelled");
    if (HasApplicationLeft()) co_return absl::UnavailableError("the application left before its handshake");
    if (std::chrono::steady_clock::now() > deadline) {
      co_return absl::DeadlineExceededError("its workload had as many handshakes under way as it may for too long");
    }
    if (share_->waitingToGreet.front() == &mayGreet_ && TryTakeHandshakePlace()) co_return absl::OkStatus();
    mayGreet_.Reset();
    co_await mayGreet_.Wait();
  }
}

// Whether it sends nothing any more, so that it cannot complete a handshake.
bool Connection::HasApplicationLeft() const {
  pollfd socket{application_.fd(), POLLRDHUP, 0};
  return ::poll(&socket, 1, 0) == 1 && (socket.revents & (POLLERR | POLLHUP | POLLRDHUP)) != 0;
}

io::Task<absl::Status> Connection::GreetApplication() {
  auto place = TakeHandshakePlace();
  const absl::Status taken = co_await std::move(place);
  if (!taken.ok()) {
    application_.AbortOnClose();
    co_return aborted_ || draining_ ? taken : FailTls(observe::ConnectionResult::kClientTlsFailed, taken);
  }
  const absl::Cleanup leave = [this] { LeaveHandshakePlace(); };
  absl::StatusOr<std::unique_ptr<io::TlsSession>> session = makeApplicationTls_(*info_);
  if (!session.ok()) co_return FailTls(observe::ConnectionResult::kClientTlsFailed, session.status());
  applicationTls_ = std::make_unique<io::TlsStream>(application_, *std::move(session));
  const io::Deadline deadline = std::chrono::steady_clock::now() + parts_.limits.connectTimeout;
  auto greeting = applicationTls_->Handshake(deadline, &parts_.handshakes);
  const absl::Status greeted = co_await std::move(greeting);
  if (!greeted.ok() && (aborted_ || draining_)) co_return greeted;
  if (!greeted.ok()) {
    if (!absl::IsDeadlineExceeded(greeted)) {
      auto telling = LetApplicationRead();
      co_await std::move(telling);
    }
    co_return aborted_ ? greeted : FailTls(observe::ConnectionResult::kClientTlsFailed, greeted);
  }
  io::TlsOwner owner = applicationTls_->session().ClientCertificate();
  info_->certificateSubject = std::move(owner.subject);
  info_->certificateName = std::move(owner.commonName);
  parts_.metrics.HandshakeDone(applicationTls_->session().resumed());
  requests_.UseTls(*applicationTls_);
  co_return absl::OkStatus();
}

// Closing a socket in which something has not been read resets it, and the application would not learn what it was
// told.
io::Task<void> Connection::LetApplicationRead() {
  application_.ShutdownWrite();
  const io::Deadline deadline = std::chrono::steady_clock::now() + kTimeToRead;
  for (size_t left = kMostThrownAway; left > 0;) {
    const absl::Status readable = co_await application_.Readable(deadline);
    if (!readable.ok()) co_return;
    const ssize_t size = ::recv(application_.fd(), nullptr, left, MSG_TRUNC | MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) co_return;
    if (size > 0) left -= static_cast<size_t>(size);
  }
}

// From here on the pumps relay bytes, of whatever kind.
void Connection::PassUntouched() {
  passes_ = true;
  requestBytesToRelay_ = std::numeric_limits<size_t>::max();
  responseBytesToRelay_ = std::numeric_limits<size_t>::max();
  parts_.metrics.Passed(1);
  log::Warning("connection.passed",
               {{"id", info_->id},
                {"client", info_->origin.source.Text()},
                {"broker", info_->origin.destination.Text()},
                {"cluster", info_->cluster},
                {"workload", info_->workload.name()},
                {"reason", "the application speaks TLS, and clientTls is \"pass\": not protected"}});
}

absl::Status Connection::FailTls(observe::ConnectionResult result, const absl::Status& status) {
  const bool isToBroker = result == observe::ConnectionResult::kTlsFailed;
  endReason_ =
      StrCat("no TLS connection ", isToBroker ? "to the broker: " : "with the application: ", ToStd(status.message()));
  result_ = result;
  return status;
}

// An application that speaks TLS with the broker itself needs none of the agent's.
io::Task<absl::Status> Connection::ConnectUpstream() {
  if (brokerTls_ && !passes_) {
    absl::StatusOr<std::unique_ptr<io::TlsSession>> session = brokerTls_(*info_);
    if (!session.ok()) co_return FailTls(observe::ConnectionResult::kTlsFailed, session.status());
    if (*session != nullptr) {
      upstreamTls_ = std::make_unique<io::TlsStream>(upstream_, *std::move(session));
      responses_.UseTls(*upstreamTls_);
    }
  }
  const io::Deadline deadline = std::chrono::steady_clock::now() + parts_.limits.connectTimeout;
  auto connecting = upstream_.Connect(info_->origin.destination, deadline);
  const absl::Status connected = co_await std::move(connecting);
  if (!connected.ok()) {
    if (aborted_) co_return connected;
    endReason_ = StrCat("no connection to the broker: ", connected.message());
    result_ = observe::ConnectionResult::kBrokerUnreachable;
    co_return connected;
  }
  if (upstreamTls_ == nullptr) co_return connected;
  auto greeting = upstreamTls_->Handshake(deadline);
  const absl::Status greeted = co_await std::move(greeting);
  if (greeted.ok() || aborted_) co_return greeted;
  upstream_.AbortOnClose();
  co_return FailTls(observe::ConnectionResult::kTlsFailed, greeted);
}

}  // namespace kveil::proxy
