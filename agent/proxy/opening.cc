// What comes before requests and responses: who the application is, and the way to the broker.
#include <sys/socket.h>

#include <limits>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "proxy/connection.h"
#include "proxy/foreign_bytes.h"

namespace kveil::proxy {

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
  if (hasCome && BeginsTls(Bytes(&first, 1))) PassUntouched();
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

absl::Status Connection::FailTls(const absl::Status& status) {
  endReason_ = StrCat("no TLS connection to the broker: ", status.message());
  result_ = observe::ConnectionResult::kTlsFailed;
  return status;
}

// An application that speaks TLS with the broker itself needs none of the agent's.
io::Task<absl::Status> Connection::ConnectUpstream() {
  if (brokerTls_ && !passes_) {
    absl::StatusOr<std::unique_ptr<io::TlsSession>> session = brokerTls_(*info_);
    if (!session.ok()) co_return FailTls(session.status());
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
  co_return FailTls(greeted);
}

}  // namespace kveil::proxy
