// What comes before requests and responses: who the application is, and the way to the broker.
#include <sys/socket.h>

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
constexpr size_t kHandshakeMemory = 192 << 10;  // bytes: the longest greeting that OpenSSL takes, twice, and a chain

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
  const absl::Status readable = co_await application_.Readable(io::Deadline::max());
  if (!readable.ok()) co_return readable;
  uint8_t first = 0;
  const bool hasCome = ::recv(application_.fd(), &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  if (!hasCome || !BeginsTls(Bytes(&first, 1))) {
    if (clientTls_ != ClientTls::kRequire) co_return absl::OkStatus();
    if (!hasCome) co_return absl::UnavailableError("the application has ended");
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

// Waits until the workload has fewer handshakes under way than it may have. Each takes memory, and their signatures
// take the worker's time: so many get their turn before others do.
io::Task<void> Connection::TakeHandshakePlace() {
  parts_.metrics.HandshakeWaits(1);
  auto turn = co_await share_->handshakesTurn.Lock();
  while (share_->handshakes >= kMostHandshakes && !application_.cancelled()) {
    share_->handshakeEnded.Reset();
    co_await share_->handshakeEnded.Wait();
  }
  ++share_->handshakes;
  parts_.metrics.HandshakeWaits(-1);
}

io::Task<absl::Status> Connection::GreetApplication() {
  auto place = TakeHandshakePlace();
  co_await std::move(place);
  const absl::Cleanup leave = [this] {
    --share_->handshakes;
    share_->handshakeEnded.Set();
  };
  if (application_.cancelled()) co_return absl::CancelledError("cancelled");
  const MemoryInUse memory(parts_.budget, kHandshakeMemory);
  absl::StatusOr<std::unique_ptr<io::TlsSession>> session = makeApplicationTls_(*info_);
  if (!session.ok()) co_return FailTls(observe::ConnectionResult::kClientTlsFailed, session.status());
  applicationTls_ = std::make_unique<io::TlsStream>(application_, *std::move(session));
  auto greeting = applicationTls_->Handshake(std::chrono::steady_clock::now() + parts_.limits.connectTimeout);
  const absl::Status greeted = co_await std::move(greeting);
  if (!greeted.ok() && (aborted_ || draining_)) co_return greeted;
  if (!greeted.ok()) co_return FailTls(observe::ConnectionResult::kClientTlsFailed, greeted);
  io::TlsOwner owner = applicationTls_->session().ClientCertificate();
  info_->certificateSubject = std::move(owner.subject);
  info_->certificateName = std::move(owner.commonName);
  parts_.metrics.HandshakeDone(applicationTls_->session().resumed());
  requests_.UseTls(*applicationTls_);
  co_return absl::OkStatus();
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
