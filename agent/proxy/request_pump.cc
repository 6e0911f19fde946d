// From the application to the broker.
#include <poll.h>

#include <utility>

#include "base/text.h"
#include "io/turn.h"
#include "kafka/big_endian.h"
#include "proxy/connection.h"
#include "proxy/foreign_bytes.h"

namespace kveil::proxy {
namespace {

constexpr size_t kLengthSize = 4;
constexpr size_t kFixedHeaderSize = 2 + 2 + 4;  // API key, version, correlation id
// An application that is owed this many answers, or answers that take more than OwedMemory allows, is not read.
constexpr size_t kMostAnswersOwed = 4096;

kafka::ApiKey ApiKeyOf(Bytes whole) {
  return static_cast<kafka::ApiKey>(kafka::LoadBigEndian<int16_t>(whole.data() + kLengthSize));
}

}  // namespace

io::Task<void> Connection::PumpRequests() {
  auto relay = RelayRequests();
  const absl::Status status = co_await std::move(relay);
  requestsEnded_ = true;
  requests_.Abandon();  // the other direction may be waiting for this memory
  if (applicationTls_ != nullptr) applicationTls_->StopWaiting();
  if (absl::IsFailedPrecondition(status)) {
    // An interceptor ends the connection: answers that are owed still arrive.
    endReason_ = StrCat("application: ", status.message());
    draining_ = true;
  } else if (!status.ok()) {
    End("application", status);
    co_return;
  }
  EndUpstreamWhenAnswered();
  if (responsesEnded_) application_.Cancel();
}

io::Task<absl::Status> Connection::RelayRequests() {
  for (;;) {
    auto filling = requests_.Fill();
    awaitsApplication_ = true;
    const absl::StatusOr<bool> arrived = co_await std::move(filling);
    awaitsApplication_ = false;
    if (!arrived.ok()) co_return arrived.status();
    if (!*arrived) co_return absl::OkStatus();
    for (;;) {
      auto taking = TakeRequests();
      const absl::StatusOr<size_t> whole = co_await std::move(taking);
      // What was taken before a request that ends the connection is the broker's, as it would be without an agent.
      auto sending = SendUpstream();
      const absl::Status sent = co_await std::move(sending);
      if (!whole.ok()) co_return whole.status();
      if (!sent.ok()) co_return sent;
      if (*whole == 0) break;
      auto completing = requests_.FillTo(*whole);
      awaitsApplication_ = true;
      const absl::StatusOr<bool> complete = co_await std::move(completing);
      awaitsApplication_ = false;
      if (!complete.ok()) co_return complete.status();
      if (!*complete) co_return absl::OkStatus();  // ended in the middle of a request: nothing of it was forwarded
    }
  }
}

// Takes every complete request out of what is buffered. Returns how many bytes have to be there before it can go on, or
// 0 when anything more will do.
io::Task<absl::StatusOr<size_t>> Connection::TakeRequests() {
  io::Turn turn(parts_.loop);
  for (;;) {
    if (bareTokensDue_ > 0 && !pending_.empty()) {
      auto answering = AwaitAnswers();
      const absl::Status answered = co_await std::move(answering);
      if (!answered.ok()) co_return answered;
    }
    const Bytes in = requests_.buffered();
    if (requestBytesToRelay_ > 0) {
      const size_t taken = std::min(requestBytesToRelay_, in.size());
      if (taken == 0) co_return 0;
      toUpstream_.AddSlice(in.first(taken));
      requests_.Consume(taken);
      requestBytesToRelay_ -= taken;
      continue;
    }
    if (in.size() < kLengthSize) co_return 0;
    if (OwesTooMuch()) {
      auto waiting = AwaitRoom();
      const absl::Status waited = co_await std::move(waiting);
      if (!waited.ok()) co_return waited;
      continue;
    }
    const absl::StatusOr<size_t> size = SizeOfRequest(in);
    if (!size.ok()) co_return size.status();
    const size_t wholeSize = kLengthSize + *size;
    Interceptor* interceptor = nullptr;
    if (bareTokensDue_ > 0) {
      interceptor = wants_[static_cast<size_t>(kafka::ApiKey::kSaslAuthenticate)];
    } else {
      if (in.size() < kLengthSize + kFixedHeaderSize) co_return 0;
      const auto apiKey = static_cast<int16_t>(ApiKeyOf(in));
      if (apiKey >= 0 && static_cast<size_t>(apiKey) < wants_.size()) interceptor = wants_[static_cast<size_t>(apiKey)];
      if (interceptor == nullptr) {
        const int16_t version = kafka::LoadBigEndian<int16_t>(in.data() + 6);
        if (!kafka::IsKnown(ApiKeyOf(in), version)) co_return RefuseUnknown(apiKey, version);
        Owe(PendingResponse(PendingResponse::Kind::kRelay, ApiKeyOf(in), version,
                            kafka::LoadBigEndian<int32_t>(in.data() + 8)));
        requestBytesToRelay_ = wholeSize;
        continue;
      }
    }
    if (in.size() < wholeSize) co_return wholeSize;
    if (LeavesFirst(toUpstream_, wholeSize)) {
      auto sending = SendUpstream();
      const absl::Status sent = co_await std::move(sending);
      if (!sent.ok()) co_return sent;
    }
    // Of small requests thousands are buffered at once.
    co_await turn.Pause();
    auto handling = HandleRequest(*interceptor, in.first(wholeSize));
    const absl::Status handled = co_await std::move(handling);
    if (!handled.ok()) co_return handled;
    requests_.Consume(wholeSize);
    if (toUpstream_.isFull()) {
      auto sending = SendUpstream();
      const absl::Status sent = co_await std::move(sending);
      if (!sent.ok()) co_return sent;
    }
  }
}

// Returns when nothing is owed any more.
io::Task<absl::Status> Connection::AwaitAnswers() {
  auto sending = SendUpstream();
  const absl::Status sent = co_await std::move(sending);
  if (!sent.ok()) co_return sent;
  while (!pending_.empty()) {
    if (responsesEnded_ || aborted_) co_return absl::UnavailableError("the broker ended during authentication");
    answered_.Reset();
    co_await answered_.Wait();
  }
  co_return absl::OkStatus();
}

bool Connection::OwesTooMuch() { return pending_.size() >= kMostAnswersOwed || owed_.IsFull(); }

void Connection::Owe(PendingResponse answer) {
  answer.counted = answer.bytes();
  owed_.Add(answer.counted);
  pending_.push_back(std::move(answer));
}

// Reads no more requests until the application is owed less. The sweep ends it when nothing moves for too long.
io::Task<absl::Status> Connection::AwaitRoom() {
  auto sending = SendUpstream();
  const absl::Status sent = co_await std::move(sending);
  if (!sent.ok()) co_return sent;
  awaitsRoom_ = true;
  parts_.metrics.HeldBack(1);
  while (OwesTooMuch() && !responsesEnded_ && !aborted_) {
    answered_.Reset();
    co_await answered_.Wait();
  }
  parts_.metrics.HeldBack(-1);
  awaitsRoom_ = false;
  if (!responsesEnded_ && !aborted_) co_return absl::OkStatus();
  co_return absl::UnavailableError(StrCat("the broker has ended and owes ", pending_.size(), " answers"));
}

// The bytes that follow the length, or why they cannot be a request.
absl::StatusOr<size_t> Connection::SizeOfRequest(Bytes in) {
  const uint32_t size = kafka::LoadBigEndian<uint32_t>(in.data());
  const size_t least = bareTokensDue_ > 0 ? 0 : kFixedHeaderSize;
  const size_t most = bareTokensDue_ > 0 ? kMostTokenBytes : parts_.limits.requestFrame;
  if (size >= least && size <= most && size != kProxyProtocolLength) return size;
  const bool isRefusedTls = BeginsTls(in) && clientTls_ == ClientTls::kRefuse;
  result_ = isRefusedTls ? observe::ConnectionResult::kClientTls : observe::ConnectionResult::kNotKafka;
  application_.AbortOnClose();
  const std::string name = BeginsTls(in) && !isRefusedTls ? "TLS where a request is due" : NameForeignBytes(in);
  return absl::InvalidArgumentError(StrCat("the first bytes mean a request of ", static_cast<int32_t>(size),
                                           " bytes (allowed: ", least, " to ", most, "): ", name));
}

// Nobody can say what it carries: it may be records, which would leave in the clear, or brokers, which would be spoken
// to past the agent. Clients are not offered it either.
absl::Status Connection::RefuseUnknown(int16_t apiKey, int16_t version) {
  if (!responsesEnded_ && !aborted_) result_ = observe::ConnectionResult::kUnsupported;
  return absl::FailedPreconditionError(StrCat("API ", apiKey, " (", kafka::ApiName(static_cast<kafka::ApiKey>(apiKey)),
                                              ") version ", version, ", which the agent does not know"));
}

io::Task<absl::Status> Connection::HandleRequest(Interceptor& interceptor, Bytes whole) {
  RequestFrame request;
  request.frame = whole.subspan(kLengthSize);
  if (bareTokensDue_ > 0) {
    --bareTokensDue_;
    request.header.apiKey = kafka::ApiKey::kSaslAuthenticate;
    request.header.version = kBareToken;
  } else {
    const absl::StatusOr<kafka::RequestHeader> read = kafka::ReadRequestHeader(request.frame);
    if (!read.ok()) co_return read.status();
    request.header = *read;
    NoteClientId(request.header.clientId.value_or(""));
  }
  const kafka::RequestHeader& header = request.header;
  request.body = request.frame.subspan(header.size);

  kafka::FrameWriter& writer = toUpstream_.NewWriter();
  FrameOutput output(writer, toUpstream_.arena());
  auto intercepting = interceptor.OnRequest(request, *this, output);
  RequestVerdict verdict = co_await std::move(intercepting);
  DropOwnAnswer();

  if (verdict.action == RequestVerdict::Action::kClose) {
    if (!responsesEnded_ && !aborted_ && !IsApplicationGone()) result_ = observe::ConnectionResult::kUnsupported;
    co_return absl::FailedPreconditionError(verdict.reason);
  }
  if (verdict.action == RequestVerdict::Action::kAnswer) {
    PendingResponse answer(PendingResponse::Kind::kLocal, header.apiKey, header.version, header.correlationId);
    answer.answer = writer.ToBuffer();
    auto answering = AnswerLocally(std::move(answer));
    co_return co_await std::move(answering);
  }
  if (verdict.expectResponse) {
    PendingResponse owed(verdict.wantResponse ? PendingResponse::Kind::kIntercept : PendingResponse::Kind::kRelay,
                         header.apiKey, header.version, header.correlationId);
    owed.interceptor = &interceptor;
    owed.state = std::move(verdict.state);
    Owe(std::move(owed));
  }
  bareTokensDue_ += verdict.bareTokens;
  if (verdict.action == RequestVerdict::Action::kRewrite) {
    toUpstream_.AddWritten(writer);
  } else {
    toUpstream_.AddSlice(whole);
  }
  co_return absl::OkStatus();
}

// Puts the agent's own answer in its place behind the answers that are owed before it, and sends it when it is its
// turn.
io::Task<absl::Status> Connection::AnswerLocally(PendingResponse answer) {
  Owe(std::move(answer));
  if (pending_.front().kind != PendingResponse::Kind::kLocal) co_return absl::OkStatus();
  auto lock = co_await applicationWrite_.Lock();
  OutgoingFrames out(parts_.shelf, parts_.budget);
  AppendLocalAnswers(out);
  auto sending = SendToApplication(out);
  co_return co_await std::move(sending);
}

io::Task<absl::Status> Connection::SendUpstream() {
  if (toUpstream_.empty()) {
    toUpstream_.Clear();
    co_return absl::OkStatus();
  }
  const size_t size = toUpstream_.size();
  auto sending = SendSlicesUpstream(toUpstream_.slices());
  const absl::Status sent = co_await std::move(sending);
  toUpstream_.Clear();
  CountSentUpstream(size);
  if (!sent.ok()) co_return absl::Status(sent.code(), StrCat("sending to the broker: ", sent.message()));
  co_return sent;
}

void Connection::CountSentUpstream(size_t size) {
  requestBytes_ += size;
  parts_.metrics.BytesReceived(observe::Side::kClient, requests_.TakeReceivedCount());
  parts_.metrics.BytesSent(observe::Side::kBroker, size);
}

io::Task<absl::StatusOr<Bytes>> Connection::Ask(kafka::ApiKey apiKey, int16_t version,
                                                std::optional<std::string_view> clientId,
                                                std::function<void(kafka::FrameWriter&)> write) {
  DropOwnAnswer();
  ownAnswer_.failed = responsesEnded_;
  ownAnswer_.arrived.Reset();
  if (ownAnswer_.failed) co_return absl::UnavailableError("the broker has closed the connection");

  // Negative, so that it is never one of the application's; the answer is found by its place in the queue anyway.
  lastOwnCorrelationId_ = lastOwnCorrelationId_ == INT32_MIN ? -1 : lastOwnCorrelationId_ - 1;
  kafka::FrameWriter writer;
  writer.BeginFrame();
  kafka::WriteRequestHeader(apiKey, version, lastOwnCorrelationId_, clientId, writer);
  write(writer);
  writer.FinishFrame();
  PendingResponse owed(PendingResponse::Kind::kOwn, apiKey, version, lastOwnCorrelationId_);
  owed.own = &ownAnswer_;
  Owe(std::move(owed));

  // Ahead of it goes what was collected before it, so that requests and answers keep one order.
  if (!toUpstream_.empty()) {
    auto sending = SendSlicesUpstream(toUpstream_.slices());
    const absl::Status ahead = co_await std::move(sending);
    if (!ahead.ok()) co_return ahead;
    CountSentUpstream(toUpstream_.size());
  }
  auto sending = SendSlicesUpstream(writer.Slices());
  const absl::Status sent = co_await std::move(sending);
  if (!sent.ok()) co_return sent;
  CountSentUpstream(writer.size());
  toUpstream_.ForgetSent(writer.size());
  co_await ownAnswer_.arrived.Wait();
  if (ownAnswer_.failed) co_return absl::UnavailableError("the broker has closed the connection");
  const absl::StatusOr<kafka::ResponseHeader> header = kafka::ReadResponseHeader(ownAnswer_.frame, apiKey, version);
  if (!header.ok()) co_return header.status();
  co_return Bytes(ownAnswer_.frame).subspan(header->size);
}

// Looks at the socket, as nobody reads from it while a request is handled. What came before the end may still wait
// there, so the end cannot be found by reading.
bool Connection::IsApplicationGone() {
  pollfd look = {.fd = application_.fd(), .events = POLLRDHUP, .revents = 0};
  if (::poll(&look, 1, 0) <= 0) return false;
  // While it drains, the agent has itself ended what it receives.
  const int ended = draining_ ? POLLERR | POLLHUP : POLLERR | POLLHUP | POLLRDHUP;
  return (look.revents & ended) != 0;
}

// What the broker answered to the agent itself is needed until the request has been handled.
void Connection::DropOwnAnswer() {
  owed_.Remove(ownAnswer_.frame.size());
  ownAnswer_.frame = ByteBuffer();
}

}  // namespace kveil::proxy
