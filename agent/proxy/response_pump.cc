// From the broker to the application.
#include <utility>

#include "base/text.h"
#include "io/turn.h"
#include "kafka/big_endian.h"
#include "proxy/connection.h"

namespace kveil::proxy {
namespace {

constexpr size_t kLengthSize = 4;
constexpr size_t kCorrelationIdSize = 4;
// The agent asks for little: a broker that answers its questions with more than this is none.
constexpr size_t kMostOwnAnswer = 16 << 20;

}  // namespace

io::Task<void> Connection::PumpResponses() {
  auto relay = RelayResponses();
  const absl::Status status = co_await std::move(relay);
  responsesEnded_ = true;
  responses_.Abandon();  // the other direction may be waiting for this memory
  answered_.Set();
  if (upstreamTls_ != nullptr) upstreamTls_->StopWaiting();
  FailOwnAnswers();
  if (!status.ok()) {
    End("broker", status);
    co_return;
  }
  if (!pending_.empty() && endReason_.empty() && !requestsEnded_) {
    endReason_ = StrCat("the broker closed with ", pending_.size(), " requests unanswered");
  }
  EndApplication();
  if (requestsEnded_) upstream_.Cancel();
}

io::Task<absl::Status> Connection::RelayResponses() {
  for (;;) {
    auto filling = responses_.Fill();
    const absl::StatusOr<bool> arrived = co_await std::move(filling);
    if (!arrived.ok()) co_return arrived.status();
    if (!*arrived) co_return absl::OkStatus();
    for (;;) {
      size_t whole = 0;
      {
        auto lock = co_await applicationWrite_.Lock();
        auto taking = TakeResponses();
        const absl::StatusOr<size_t> taken = co_await std::move(taking);
        if (!taken.ok()) co_return taken.status();
        whole = *taken;
        AppendLocalAnswers(toApplication_);
        auto sending = SendToApplication(toApplication_);
        const absl::Status sent = co_await std::move(sending);
        if (!sent.ok()) co_return sent;
      }
      EndUpstreamWhenAnswered();
      if (whole == 0) break;
      auto completing = responses_.FillTo(whole);
      const absl::StatusOr<bool> complete = co_await std::move(completing);
      if (!complete.ok()) co_return complete.status();
      if (!*complete) co_return absl::OkStatus();  // ended in the middle of a response
    }
  }
}

// Takes every complete response out of what is buffered. Returns how many bytes have to be there before it can go on,
// or 0 when anything more will do. The caller holds applicationWrite_.
io::Task<absl::StatusOr<size_t>> Connection::TakeResponses() {
  io::Turn turn(parts_.loop);
  for (;;) {
    const Bytes in = responses_.buffered();
    if (responseBytesToRelay_ > 0) {
      const size_t taken = std::min(responseBytesToRelay_, in.size());
      if (taken == 0) co_return 0;
      toApplication_.AddSlice(in.first(taken));
      responses_.Consume(taken);
      responseBytesToRelay_ -= taken;
      if (responseBytesToRelay_ == 0) PopAnswered();
      continue;
    }
    AppendLocalAnswers(toApplication_);
    if (in.size() < kLengthSize) co_return 0;
    if (pending_.empty()) co_return absl::InvalidArgumentError("a response that nobody asked for");
    PendingResponse& owed = pending_.front();
    const size_t idSize = owed.isBareToken() ? 0 : kCorrelationIdSize;
    if (in.size() < kLengthSize + idSize) co_return 0;
    const int32_t size = kafka::LoadBigEndian<int32_t>(in.data());
    if (size < static_cast<int32_t>(idSize)) {
      co_return absl::InvalidArgumentError(StrCat("a response of ", size, " bytes"));
    }
    const int32_t correlationId =
        owed.isBareToken() ? owed.correlationId : kafka::LoadBigEndian<int32_t>(in.data() + kLengthSize);
    if (owed.correlationId != correlationId) {
      co_return absl::InvalidArgumentError(StrCat("a response with correlation id ", correlationId, " where that to ",
                                                  kafka::ApiName(owed.apiKey), " ", owed.correlationId, " is due"));
    }
    const size_t wholeSize = kLengthSize + static_cast<size_t>(size);
    if (owed.state != nullptr && !owed.state->WantsResponse()) owed.kind = PendingResponse::Kind::kRelay;
    if (owed.kind == PendingResponse::Kind::kRelay) {
      responseBytesToRelay_ = wholeSize;
      continue;
    }
    const absl::Status bounded = CheckSize(owed, static_cast<size_t>(size));
    if (!bounded.ok()) co_return bounded;
    if (in.size() < wholeSize) co_return wholeSize;
    if (owed.kind == PendingResponse::Kind::kOwn) {
      TakeOwnAnswer(in.first(wholeSize));
    } else {
      if (LeavesFirst(toApplication_, wholeSize)) {
        auto sending = SendToApplication(toApplication_);
        const absl::Status sent = co_await std::move(sending);
        if (!sent.ok()) co_return sent;
      }
      // Of small responses thousands are buffered at once.
      co_await turn.Pause();
      auto handling = HandleResponse(in.first(wholeSize));
      const absl::Status handled = co_await std::move(handling);
      if (!handled.ok()) co_return handled;
    }
    responses_.Consume(wholeSize);
    if (toApplication_.isFull()) {
      auto sending = SendToApplication(toApplication_);
      const absl::Status sent = co_await std::move(sending);
      if (!sent.ok()) co_return sent;
    }
  }
}

// Whether a response that is held whole may have so many bytes.
absl::Status Connection::CheckSize(const PendingResponse& owed, size_t size) const {
  if (size > parts_.limits.responseFrame) {
    return absl::ResourceExhaustedError(StrCat("a ", kafka::ApiName(owed.apiKey), " response of ", size,
                                               " bytes, more than limits.responseSize allows (",
                                               parts_.limits.responseFrame, ")"));
  }
  if (owed.kind == PendingResponse::Kind::kOwn && size > kMostOwnAnswer) {
    return absl::ResourceExhaustedError(StrCat("a ", kafka::ApiName(owed.apiKey), " response of ", size,
                                               " bytes to the agent's own question (allowed: ", kMostOwnAnswer, ")"));
  }
  return absl::OkStatus();
}

io::Task<absl::Status> Connection::HandleResponse(Bytes whole) {
  PendingResponse& owed = pending_.front();  // stays there until this is done: who else adds, adds at the end
  ResponseFrame response;
  response.apiKey = owed.apiKey;
  response.version = owed.version;
  response.correlationId = owed.correlationId;
  response.frame = whole.subspan(kLengthSize);
  size_t headerSize = 0;
  if (!owed.isBareToken()) {
    const absl::StatusOr<kafka::ResponseHeader> header =
        kafka::ReadResponseHeader(response.frame, owed.apiKey, owed.version);
    if (!header.ok()) co_return header.status();
    headerSize = header->size;
  }
  response.body = response.frame.subspan(headerSize);

  kafka::FrameWriter& writer = toApplication_.NewWriter();
  FrameOutput output(writer, toApplication_.arena());
  auto intercepting = owed.interceptor->OnResponse(response, owed.state.get(), output);
  ResponseVerdict verdict = co_await std::move(intercepting);
  if (verdict.action == ResponseVerdict::Action::kClose) {
    // It stays owed, so that nothing that waits for it goes on.
    endReason_ = StrCat("broker: ", verdict.reason);
    co_return absl::FailedPreconditionError(verdict.reason);
  }
  PopAnswered();
  if (verdict.action == ResponseVerdict::Action::kRewrite) {
    toApplication_.AddWritten(writer);
  } else {
    toApplication_.AddSlice(whole);
  }
  co_return absl::OkStatus();
}

void Connection::TakeOwnAnswer(Bytes whole) {
  OwnAnswer& own = *pending_.front().own;
  PopAnswered();
  own.frame.assign(whole.begin() + kLengthSize, whole.end());
  owed_.Add(own.frame.size());
  own.arrived.Set();
}

void Connection::PopAnswered() {
  owed_.Remove(pending_.front().counted);
  pending_.pop_front();
  answered_.Set();
}

void Connection::FailOwnAnswers() {
  for (PendingResponse& owed : pending_) {
    if (owed.kind != PendingResponse::Kind::kOwn) continue;
    owed.own->failed = true;
    owed.own->arrived.Set();
  }
}

// Moves the agent's own answers whose turn it is out of the queue. The caller holds applicationWrite_, so that nothing
// else gets between them and what was taken out before.
void Connection::AppendLocalAnswers(OutgoingFrames& out) {
  while (!pending_.empty() && pending_.front().kind == PendingResponse::Kind::kLocal) {
    out.AddOwned(std::move(pending_.front().answer));
    PopAnswered();
  }
}

// Without the end of TLS where the agent is in the middle of an answer: the application must see that it is cut off.
void Connection::EndApplication() {
  const bool isInAnswer = sendingToApplication_ || responseBytesToRelay_ > 0;
  if (applicationTls_ != nullptr && !isInAnswer) applicationTls_->End();
  application_.ShutdownWrite();
}

io::Task<absl::Status> Connection::SendToApplication(OutgoingFrames& out) {
  if (out.empty()) {
    out.Clear();
    co_return absl::OkStatus();
  }
  const size_t size = out.size();
  sendingToApplication_ = true;
  absl::Status sent;
  if (applicationTls_ == nullptr) {
    sent = co_await application_.SendAll(out.slices(), io::Deadline::max());
  } else {
    auto sending = applicationTls_->SendAll(out.slices(), io::Deadline::max());
    sent = co_await std::move(sending);
  }
  sendingToApplication_ = false;
  out.Clear();
  responseBytes_ += size;
  parts_.metrics.BytesReceived(observe::Side::kBroker, responses_.TakeReceivedCount());
  parts_.metrics.BytesSent(observe::Side::kClient, size);
  if (!sent.ok()) co_return absl::Status(sent.code(), StrCat("sending to the application: ", sent.message()));
  co_return sent;
}

}  // namespace kveil::proxy
