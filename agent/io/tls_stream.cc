#include "io/tls_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/text.h"

namespace kveil::io {
namespace {

// Received at once and decrypted before anything else happens on the thread, so one buffer is enough for all.
constexpr size_t kReceiveSize = 256 << 10;
// What is sent at once: sixteen records (256 KiB were the cheapest in measurements, 16 KiB cost 1.8 times as much).
constexpr size_t kSendSize = 16 * TlsSession::kRecordSize;
// Of others' time after a step of a handshake. What takes longer was no signature: the thread did not run.
constexpr std::chrono::nanoseconds kLongestPause = std::chrono::milliseconds(20);

MutableBytes Scratch() {
  thread_local const auto scratch = std::make_unique_for_overwrite<std::array<uint8_t, kReceiveSize>>();
  return MutableBytes(*scratch);
}

// Takes bytes out of many slices, one after the other.
class SliceReader {
 public:
  explicit SliceReader(absl::Span<const iovec> slices) : slices_(slices) {}
  // Up to `most` bytes that lie together; empty at the end.
  Bytes Next(size_t most) {
    while (!slices_.empty() && at_ == slices_.front().iov_len) {
      slices_.remove_prefix(1);
      at_ = 0;
    }
    if (slices_.empty()) return {};
    const size_t taken = std::min(most, slices_.front().iov_len - at_);
    const Bytes bytes(static_cast<const uint8_t*>(slices_.front().iov_base) + at_, taken);
    at_ += taken;
    return bytes;
  }

 private:
  absl::Span<const iovec> slices_;
  size_t at_ = 0;
};

// The next record's bytes: where they lie when they fill a record, or joined in a place of this thread's.
Bytes NextRecord(SliceReader& slices) {
  thread_local const auto record = std::make_unique_for_overwrite<std::array<uint8_t, TlsSession::kRecordSize>>();
  const Bytes first = slices.Next(record->size());
  if (first.size() == record->size()) return first;
  size_t used = 0;
  for (Bytes next = first; !next.empty(); next = slices.Next(record->size() - used)) {
    std::copy(next.begin(), next.end(), record->begin() + static_cast<std::ptrdiff_t>(used));
    used += next.size();
  }
  return Bytes(record->data(), used);
}

}  // namespace

Task<absl::StatusOr<bool>> TlsStream::Step(Deadline deadline, HandshakePace* pace) {
  if (pace == nullptr) co_return session_->Handshake();
  auto turn = co_await pace->step.Lock();
  if (!socket_.cancelled()) co_await pace->loop.Sleep(pace->notBefore - std::chrono::steady_clock::now());
  if (socket_.cancelled()) co_return absl::CancelledError("cancelled");
  const Deadline begun = std::chrono::steady_clock::now();
  if (begun > deadline) co_return absl::DeadlineExceededError("too many handshakes had to come first");
  absl::StatusOr<bool> done = session_->Handshake();
  const Deadline ended = std::chrono::steady_clock::now();
  pace->notBefore = ended + std::min(ended - begun, kLongestPause);
  co_return done;
}

Task<absl::Status> TlsStream::Handshake(Deadline deadline, HandshakePace* pace) {
  for (;;) {
    auto step = Step(deadline, pace);
    const absl::StatusOr<bool> done = co_await std::move(step);
    auto sending = SendOutput(deadline);  // also what tells the peer why it is refused
    const absl::Status sent = co_await std::move(sending);
    if (!done.ok()) co_return done.status();
    if (!sent.ok()) co_return sent;
    if (*done) co_return absl::OkStatus();
    const absl::Status readable = co_await socket_.Readable(deadline);
    if (!readable.ok()) co_return readable;
    const ssize_t received = ::recv(socket_.fd(), Scratch().data(), TlsSession::kRecordSize, MSG_DONTWAIT);
    if (received == 0)
      co_return absl::UnavailableError(
          StrCat("TLS: the ", session_->peerName(), " closed the connection during the handshake"));
    if (received < 0 && errno != EAGAIN && errno != EINTR) {
      co_return absl::UnavailableError("TLS: the connection broke during the handshake");
    }
    if (received < 0) continue;
    session_->Feed(Scratch().first(static_cast<size_t>(received)));
    session_->KeepInput();
  }
}

int TlsStream::Recv(MutableBytes into) {
  if (end_.has_value()) return *end_;
  int result = session_->Read(into);
  if (result > 0) return result;
  size_t count = 0;
  if (result == -EAGAIN) {
    const size_t most = std::clamp(into.size(), TlsSession::kRecordSize, kReceiveSize);
    const ssize_t received = ::recv(socket_.fd(), Scratch().data(), most, MSG_DONTWAIT);
    if (received < 0) return -errno;
    if (received == 0) return 0;
    bytesReceived_ += static_cast<uint64_t>(received);
    session_->Feed(Scratch().first(static_cast<size_t>(received)));
    while (count < into.size() && (result = session_->Read(into.subspan(count))) > 0)
      count += static_cast<size_t>(result);
    session_->KeepInput();
    received_.Set();
  }
  // The socket will not become readable for an end that has been read already.
  if (result <= 0 && result != -EAGAIN) end_ = result;
  return count > 0 ? static_cast<int>(count) : result;
}

void TlsStream::StopWaiting() {
  stopped_ = true;
  received_.Set();
}

std::string TlsStream::Refusal() {
  std::array<uint8_t, 256> rest;
  // What came before a refusal are tickets for later sessions.
  for (int i = 0; i < 4 && Recv(MutableBytes(rest)) == -EAGAIN; ++i) continue;
  return session_->refused() ? session_->problem() : "";
}

Task<absl::Status> TlsStream::SendOutput(Deadline deadline) {
  if (session_->output().empty()) co_return absl::OkStatus();
  // A buffer of its own: meanwhile the other direction may have something to say in TLS.
  ByteBuffer sending = std::exchange(session_->output(), ByteBuffer());
  const iovec slice = {sending.data(), sending.size()};
  co_return co_await socket_.SendAll(absl::MakeConstSpan(&slice, 1), deadline);
}

Task<absl::Status> TlsStream::SendAll(absl::Span<const iovec> slices, Deadline deadline) {
  SliceReader reader(slices);
  size_t left = 0;
  for (const iovec& slice : slices) left += slice.iov_len;
  while (left > 0) {
    size_t now = std::min(left, kSendSize);
    left -= now;
    session_->output().reserve(session_->output().size() + now + now / 64 + 128);  // with what the records add
    while (now > 0) {
      const Bytes record = NextRecord(reader);
      const absl::StatusOr<bool> written = session_->Write(record);
      if (!written.ok()) co_return written.status();
      now -= record.size();
      if (*written) continue;
      auto writing = WriteAfterRecv(ByteBuffer(record.begin(), record.end()), deadline);
      if (absl::Status later = co_await std::move(writing); !later.ok()) co_return later;
    }
    auto sending = SendOutput(deadline);
    if (absl::Status sent = co_await std::move(sending); !sent.ok()) co_return sent;
  }
  co_return absl::OkStatus();
}

// Half a message of TLS itself has been read: nothing can be written before the rest has.
Task<absl::Status> TlsStream::WriteAfterRecv(ByteBuffer record, Deadline deadline) {
  auto sending = SendOutput(deadline);
  if (absl::Status sent = co_await std::move(sending); !sent.ok()) co_return sent;
  for (;;) {
    received_.Reset();
    if (stopped_)
      co_return absl::UnavailableError(StrCat("TLS: the ", session_->peerName(), " ended in the middle of a message"));
    co_await received_.Wait();
    const absl::StatusOr<bool> written = session_->Write(record);
    if (!written.ok()) co_return written.status();
    if (*written) co_return absl::OkStatus();
  }
}

void TlsStream::End() {
  session_->WriteEnd();
  const ByteBuffer output = std::exchange(session_->output(), ByteBuffer());
  (void)!::send(socket_.fd(), output.data(), output.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace kveil::io
