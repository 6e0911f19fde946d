#include "proxy/connection.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "identity/claims.h"
#include "io/both.h"

namespace kveil::proxy {
namespace {

// Without TCP_NODELAY the hop waits for delayed acknowledgements (47 ms were measured); keepalive finds dead peers.
void SetSocketOptions(int fd) {
  const int on = 1;
  const int idleSeconds = 60;
  const int intervalSeconds = 10;
  const int probes = 6;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idleSeconds, sizeof(idleSeconds));
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &intervalSeconds, sizeof(intervalSeconds));
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

}  // namespace

Connection::Connection(WorkerParts& parts, std::shared_ptr<WorkloadShare> share, std::unique_ptr<ConnectionInfo> info,
                       UniqueFd application, ConnectionParts own)
    : parts_(parts),
      share_(std::move(share)),
      info_(std::move(info)),
      application_(parts.loop, std::move(application)),
      upstream_(parts.loop, std::move(own.upstream)),
      clientTls_(own.clientTls),
      brokerTls_(std::move(own.brokerTls)),
      makeApplicationTls_(std::move(own.applicationTls)),
      interceptors_(std::move(own.interceptors)),
      requests_(parts.loop, application_, parts.shelf, parts.budget, *share_),
      toUpstream_(parts.shelf, parts.budget),
      responses_(parts.loop, upstream_, parts.shelf, parts.budget, *share_),
      toApplication_(parts.shelf, parts.budget),
      owed_(parts.budget, *share_),
      unchangedSince_(std::chrono::steady_clock::now()),
      openedAt_(unchangedSince_) {
  for (const std::unique_ptr<Interceptor>& interceptor : interceptors_) {
    for (const kafka::ApiKey apiKey : interceptor->Wants()) {
      wants_.at(static_cast<size_t>(apiKey)) = interceptor.get();
    }
  }
}

io::Task<void> Connection::Run() {
  SetSocketOptions(application_.fd());
  SetSocketOptions(upstream_.fd());
  auto opening = Open();
  const absl::Status open = co_await std::move(opening);
  if (open.ok()) {
    auto requests = PumpRequests();
    auto responses = PumpResponses();
    auto both = io::Both(std::move(requests), std::move(responses));
    co_await std::move(both);
  } else if (result_ != observe::ConnectionResult::kClientTlsFailed) {  // it is told why in TLS
    application_.AbortOnClose();
  }
  auto closeUpstream = upstream_.Close();
  co_await std::move(closeUpstream);
  auto closeApplication = application_.Close();
  co_await std::move(closeApplication);
  if (passes_) parts_.metrics.Passed(-1);
  parts_.metrics.ConnectionClosed(result_);
  LogClosed();
}

io::Task<absl::Status> Connection::SendSlicesUpstream(absl::Span<const iovec> slices) {
  sendingUpstream_ = true;
  if (upstreamTls_ == nullptr) {
    const absl::Status sent = co_await upstream_.SendAll(slices, io::Deadline::max());
    sendingUpstream_ = false;
    co_return sent;
  }
  auto sending = upstreamTls_->SendAll(slices, io::Deadline::max());
  const absl::Status sent = co_await std::move(sending);
  sendingUpstream_ = false;
  if (absl::IsUnavailable(sent)) {
    // A broker that refuses the agent's certificate may have closed before what it said was read.
    if (const std::string refusal = upstreamTls_->Refusal(); !refusal.empty()) {
      co_return absl::UnavailableError(StrCat("TLS: ", refusal));
    }
  }
  co_return sent;
}

std::string Connection::TlsVersion() const {
  if (passes_) return "passed";
  return applicationTls_ == nullptr ? "none" : std::string(applicationTls_->session().Version());
}

std::string Connection::TlsWithApplication() const {
  if (passes_ || applicationTls_ == nullptr) return TlsVersion();
  constexpr size_t kMostOfSubject = 1000;  // it may be as long as the certificate; a policy may ask for no more
  const std::string_view subject = std::string_view(info_->certificateSubject).substr(0, kMostOfSubject);
  return StrCat(TlsVersion(), subject.empty() ? "" : " of ", subject);
}

ConnectionReport Connection::Report() const {
  ConnectionReport report;
  report.id = info_->id;
  report.workload = CutOff(info_->workload.name());
  report.share = CutOff(info_->workload.share);
  report.cluster = CutOff(info_->cluster);
  report.uid = info_->workload.uid;
  report.client = info_->origin.source.Text();
  report.broker = info_->origin.destination.Text();
  report.clientTls = TlsVersion();
  report.clientId = CutOff(info_->tally->clientId);
  report.principal = CutOff(info_->tally->principal);
  report.certificate = CutOff(info_->certificateSubject);
  report.age = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - openedAt_);
  report.requestBytes = requestBytes_;
  report.responseBytes = responseBytes_;
  report.recentBytes = recentBytes_;
  report.records = info_->tally->records;
  return report;
}

void Connection::NoteClientId(std::string_view clientId) {
  clientId = clientId.substr(0, identity::kLongestClientId);
  std::string& noted = info_->tally->clientId;
  if (noted != clientId) noted = clientId;
}

void Connection::LogClosed() const {
  const auto open = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - openedAt_);
  log::Info("connection.closed", {{"id", info_->id},
                                  {"client", info_->origin.source.Text()},
                                  {"broker", info_->origin.destination.Text()},
                                  {"cluster", info_->cluster},
                                  {"workload", info_->workload.name()},
                                  {"share", info_->workload.share},
                                  {"clientTls", TlsWithApplication()},
                                  {"milliseconds", open.count()},
                                  {"requestBytes", requestBytes_},
                                  {"responseBytes", responseBytes_},
                                  {"reason", endReason_.empty() ? "ended by the peers" : endReason_}});
}

void Connection::End(std::string_view side, const absl::Status& status) {
  if (endReason_.empty() && !status.ok()) endReason_ = StrCat(side, ": ", status.message());
  if (upstreamTls_ != nullptr && upstreamTls_->session().refused() && !aborted_) {
    result_ = observe::ConnectionResult::kTlsFailed;
  }
  if (absl::IsUnavailable(status)) {
    // A connection broke: the other side must not take that for an orderly end.
    application_.AbortOnClose();
    upstream_.AbortOnClose();
  }
  application_.Cancel();
  upstream_.Cancel();
  if (upstreamTls_ != nullptr) upstreamTls_->StopWaiting();
  if (applicationTls_ != nullptr) applicationTls_->StopWaiting();
  mayGreet_.Set();
  FailOwnAnswers();
  answered_.Set();
  share_->changed.Set();  // who waits for memory looks whether its socket is cancelled
}

// The end of TLS ends both directions for a broker (RFC 5246 section 7.2.1; Kafka's does that with 1.3, too), so it
// waits for the answers.
void Connection::EndUpstreamWhenAnswered() {
  if (!requestsEnded_ || upstreamEnded_) return;
  if ((draining_ || upstreamTls_ != nullptr) && !pending_.empty() && !responsesEnded_) return;
  upstreamEnded_ = true;
  if (upstreamTls_ != nullptr) upstreamTls_->End();
  upstream_.ShutdownWrite();
}

void Connection::Drain() {
  if (draining_) return;
  draining_ = true;
  mayGreet_.Set();
  // The request pump finds the end of the stream after what has already arrived.
  ::shutdown(application_.fd(), SHUT_RD);
}

void Connection::Abort(observe::ConnectionResult result, std::string_view reason) {
  if (aborted_) return;
  aborted_ = true;
  result_ = result;
  application_.AbortOnClose();
  upstream_.AbortOnClose();  // an orderly end that nobody answers would keep the workload's namespace alive
  End("agent", absl::CancelledError(ToAbsl(reason)));
}

// Whether a request has begun that the agent has not done with.
bool Connection::IsInRequest() const {
  return !passes_ && (requests_.IsStalled() || (requestBytesToRelay_ > 0 && !requests_.waitsForMemory()));
}

bool Connection::IsApplicationReset() const {
  if (application_.cancelled()) return true;
  pollfd socket{application_.fd(), 0, 0};
  return ::poll(&socket, 1, 0) == 1 && (socket.revents & (POLLERR | POLLHUP)) != 0;
}

// Whether a message has begun in some direction and not ended.
bool Connection::IsStalled() const {
  const bool isInResponse =
      !passes_ && (responses_.IsStalled() || (responseBytesToRelay_ > 0 && !responses_.waitsForMemory()));
  return awaitsRoom_ || sendingUpstream_ || sendingToApplication_ || IsInRequest() || isInResponse;
}

void Connection::Sweep(std::chrono::steady_clock::time_point now) {
  if (awaitsHandshake_) mayGreet_.Set();  // it may have waited for too long
  if (awaitsRoom_) {
    answered_.Set();  // others may have given back the memory that it waits for
    if (IsApplicationReset()) {
      return Abort(observe::ConnectionResult::kServed, "the application has reset the connection");
    }
  }
  const uint64_t moved =
      requests_.Progress() + responses_.Progress() + upstream_.bytesSent() + application_.bytesSent();
  recentBytes_ = recentBytes_ - (recentBytes_ + 7) / 8 + (moved - sweptBytes_);
  if (moved != sweptBytes_) {
    sweptBytes_ = moved;
    unchangedSince_ = now;
    return;
  }
  const auto unchanged = now - unchangedSince_;
  if (requestsEnded_ != responsesEnded_ && unchanged > parts_.limits.halfCloseTimeout) {
    Abort(observe::ConnectionResult::kStalled, requestsEnded_
                                                   ? "the broker kept its side open after the application had ended"
                                                   : "the application kept its side open after the broker had ended");
  } else if (IsStalled() && unchanged > parts_.limits.stallTimeout) {
    Abort(observe::ConnectionResult::kStalled,
          awaitsRoom_ ? StrCat("the broker owes ", pending_.size(), " answers and gave none for too long")
                      : "a message stood still for too long");
  } else if (unchanged > parts_.limits.idleTimeout) {
    Abort(observe::ConnectionResult::kServed, "idle for too long");
  }
}

std::chrono::steady_clock::duration Connection::HoardsFor(std::chrono::steady_clock::time_point now) const {
  // Or it has all memory, with a request whose question cannot be answered for want of any.
  const bool isStuck = !awaitsApplication_ && requests_.holdsMemory() && responses_.waitsForMemory();
  const bool standsStill = sendingToApplication_ || awaitsRoom_ || (awaitsApplication_ && IsInRequest()) || isStuck;
  const bool holdsMemory = requests_.holdsMemory() || responses_.holdsMemory() || toUpstream_.arena().charged() > 0 ||
                           toApplication_.arena().charged() > 0;
  return standsStill && holdsMemory && !aborted_ ? now - unchangedSince_ : std::chrono::steady_clock::duration::zero();
}

}  // namespace kveil::proxy
