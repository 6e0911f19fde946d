// One redirected connection: the application on one side, the broker on the other, and between them two pumps.
//
// The request pump is the only one that writes to the broker. Both pumps may write to the application (the request pump
// where the agent answers itself), so that side has a lock, and what is written under it follows `pending_`, the queue
// of answers owed. Every member is used on the worker's thread only.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "io/loop.h"
#include "io/mutex.h"
#include "io/socket.h"
#include "io/tls_stream.h"
#include "observe/metrics.h"
#include "proxy/connection_list.h"
#include "proxy/connection_setup.h"
#include "proxy/frame_input.h"
#include "proxy/interceptor.h"
#include "proxy/memory_budget.h"
#include "proxy/outgoing_frames.h"
#include "proxy/owed_memory.h"
#include "proxy/pending_responses.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

struct ConnectionLimits {
  size_t requestFrame = 100 << 20;   // bytes; longer requests close the connection, as at a broker
  size_t responseFrame = 256 << 20;  // bytes; longer responses that have to be held whole close the connection
  std::chrono::milliseconds connectTimeout{10'000};
  std::chrono::milliseconds halfCloseTimeout{60'000};  // how long one side may stay open after the other has ended
  std::chrono::milliseconds stallTimeout{120'000};     // how long a message begun may stand still in either direction
  std::chrono::milliseconds idleTimeout{1'800'000};    // how long both sides may say nothing
  // How long an application may stand still in the middle of a message while others wait for the memory that it holds.
  std::chrono::milliseconds hoardTimeout{12'000};
};

// What a worker shares among its connections.
struct WorkerParts {
  WorkerParts(io::Loop& loop, BufferShelf& shelf, MemoryBudget& budget, const ConnectionLimits& limits,
              observe::Metrics& metrics)
      : loop(loop), shelf(shelf), budget(budget), limits(limits), metrics(metrics), handshakes(loop) {}
  io::Loop& loop;
  BufferShelf& shelf;
  MemoryBudget& budget;
  const ConnectionLimits& limits;
  observe::Metrics& metrics;
  io::HandshakePace handshakes;  // with applications
};

class Connection : private Upstream {
 public:
  // `application` is the accepted socket, `own` what was made for this connection. `share` is that of its workload.
  Connection(WorkerParts& parts, std::shared_ptr<WorkloadShare> share, std::unique_ptr<ConnectionInfo> info,
             UniqueFd application, ConnectionParts own);
  ~Connection() override = default;

  // Meets the application and connects to the broker, relays until both sides have ended, and closes both sockets.
  io::Task<void> Run();

  // Takes no new requests; ends when the answers that are owed have been delivered.
  void Drain();
  // Ends at once; the application sees a reset.
  void Abort(observe::ConnectionResult result, std::string_view reason);
  // Called several times a second: ends a connection that has been half-closed, stalled or idle for too long.
  void Sweep(std::chrono::steady_clock::time_point now);
  // After Sweep: how long this has held memory because the application neither reads nor goes on with what it sends, or
  // because there is none for what has to come first; zero where it does not.
  std::chrono::steady_clock::duration HoardsFor(std::chrono::steady_clock::time_point now) const;

  const ConnectionInfo& info() const { return *info_; }
  // For `kveil connections`. Bytes in both directions: all, or those of about the last two seconds.
  uint64_t Traffic(bool recently) const { return recently ? recentBytes_ : requestBytes_ + responseBytes_; }
  ConnectionReport Report() const;

 private:
  // Before the pumps (opening.cc).
  io::Task<absl::Status> Open();
  io::Task<absl::Status> MeetApplication();
  void PassUntouched();
  io::Task<absl::Status> GreetApplication();
  io::Task<absl::Status> TakeHandshakePlace();
  bool TryTakeHandshakePlace();
  void LeaveHandshakePlace();
  bool HasApplicationLeft() const;
  io::Task<void> LetApplicationRead();
  io::Task<absl::Status> ConnectUpstream();
  absl::Status FailTls(observe::ConnectionResult result, const absl::Status& status);

  // Request pump (request_pump.cc).
  io::Task<void> PumpRequests();
  io::Task<absl::Status> RelayRequests();
  io::Task<absl::StatusOr<size_t>> TakeRequests();
  io::Task<absl::Status> AwaitAnswers();
  io::Task<absl::Status> AwaitRoom();
  bool OwesTooMuch();
  void Owe(PendingResponse answer);
  void DropOwnAnswer();
  io::Task<absl::Status> HandleRequest(Interceptor& interceptor, Bytes whole);
  absl::StatusOr<size_t> SizeOfRequest(Bytes in);
  absl::Status RefuseUnknown(int16_t apiKey, int16_t version);
  io::Task<absl::Status> SendUpstream();
  void CountSentUpstream(size_t size);
  io::Task<absl::Status> AnswerLocally(PendingResponse answer);
  io::Task<absl::StatusOr<Bytes>> Ask(kafka::ApiKey apiKey, int16_t version, std::optional<std::string_view> clientId,
                                      std::function<void(kafka::FrameWriter&)> write) override;
  bool IsApplicationGone() override;

  // Response pump (response_pump.cc).
  io::Task<void> PumpResponses();
  io::Task<absl::Status> RelayResponses();
  io::Task<absl::StatusOr<size_t>> TakeResponses();
  absl::Status CheckSize(const PendingResponse& owed, size_t size) const;
  io::Task<absl::Status> HandleResponse(Bytes whole);
  void TakeOwnAnswer(Bytes whole);
  void AppendLocalAnswers(OutgoingFrames& out);
  io::Task<absl::Status> SendToApplication(OutgoingFrames& out);
  void EndApplication();
  void FailOwnAnswers();
  void PopAnswered();

  io::Task<absl::Status> SendSlicesUpstream(absl::Span<const iovec> slices);
  void End(std::string_view side, const absl::Status& status);
  void EndUpstreamWhenAnswered();
  bool IsInRequest() const;
  bool IsApplicationReset() const;
  bool IsStalled() const;
  std::string TlsVersion() const;
  std::string TlsWithApplication() const;
  void NoteClientId(std::string_view clientId);
  void LogClosed() const;

  // Memory is waited for with none in hand: what holds some leaves before a message that may want much.
  bool LeavesFirst(const OutgoingFrames& frames, size_t messageSize) const {
    constexpr size_t kLittle = 64 << 10;
    return frames.arena().charged() > 0 && (messageSize > kLittle || parts_.budget.scarce());
  }

  WorkerParts& parts_;
  const std::shared_ptr<WorkloadShare> share_;
  const std::unique_ptr<ConnectionInfo> info_;  // the interceptors refer to it
  io::Socket application_;
  io::Socket upstream_;
  const ClientTls clientTls_;
  TlsMaker brokerTls_;
  TlsMaker makeApplicationTls_;
  std::unique_ptr<io::TlsStream> applicationTls_;  // nullptr: plain TCP
  std::unique_ptr<io::TlsStream> upstreamTls_;     // nullptr: plain TCP
  std::vector<std::unique_ptr<Interceptor>> interceptors_;
  std::array<Interceptor*, 128> wants_ = {};  // by API key

  FrameInput requests_;
  OutgoingFrames toUpstream_;
  size_t requestBytesToRelay_ = 0;  // of a request that nobody wants, not yet forwarded
  int bareTokensDue_ = 0;           // requests that will come without a header
  OwnAnswer ownAnswer_;
  int32_t lastOwnCorrelationId_ = 0;

  FrameInput responses_;
  OutgoingFrames toApplication_;
  io::Mutex applicationWrite_;
  size_t responseBytesToRelay_ = 0;
  PendingResponses pending_;
  OwedMemory owed_;     // of pending_ and ownAnswer_
  io::Event answered_;  // something has left pending_, or nothing will any more
  io::Event mayGreet_;  // whether it may begin its handshake is to be looked at

  bool passes_ = false;  // bytes, whatever they are: the application speaks TLS, and the agent does not look into it
  bool requestsEnded_ = false;
  bool responsesEnded_ = false;
  bool upstreamEnded_ = false;  // by us
  bool draining_ = false;
  bool aborted_ = false;
  bool awaitsApplication_ = false;  // for more of its requests
  bool awaitsRoom_ = false;         // its application is owed too much to be read
  bool awaitsHandshake_ = false;    // its workload has as many under way as it may
  bool sendingUpstream_ = false;
  bool sendingToApplication_ = false;
  uint64_t sweptBytes_ = 0;  // moved in both directions when last looked at, and since when it has been that
  std::chrono::steady_clock::time_point unchangedSince_;
  std::chrono::steady_clock::time_point openedAt_;
  std::string endReason_;
  observe::ConnectionResult result_ = observe::ConnectionResult::kServed;
  uint64_t recentBytes_ = 0;  // of each sweep, an eighth less with each later one
  uint64_t requestBytes_ = 0;
  uint64_t responseBytes_ = 0;
};

}  // namespace kveil::proxy
