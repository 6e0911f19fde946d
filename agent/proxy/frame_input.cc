#include "proxy/frame_input.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace kveil::proxy {
namespace {

// JSON parsing reads a little beyond a value's end, so every buffer that holds records has this much more memory.
constexpr size_t kTailPadding = 64;

// With TLS, a Java broker sends each record of 16 KiB by itself: nobody is woken up for less than this, or the end of
// the frame. Without TLS the kernel joins what is sent, and waiting for more gained nothing.
constexpr size_t kTlsWakeUpSize = 128 << 10;

// So much of a message is copied whenever its peer has to be waited for, more of it only when buffers are scarce.
constexpr size_t kCheapCopy = 4 << 10;

// A peer that has sent so much of a long frame gets the room for all of it.
constexpr size_t kEarnestSize = 64 << 10;

}  // namespace

Bytes FrameInput::buffered() const {
  if (begin_ == end_) return {};
  const uint8_t* data = pooled_.data();
  if (longFrame_ != nullptr) data = longFrame_->data();
  if (!setAside_.empty()) data = setAside_.data();
  return Bytes(data + begin_, end_ - begin_);
}

uint64_t FrameInput::Progress() const {
  if (tls_ == nullptr) return receivedInAll_;
  int waiting = 0;
  if (wakesUpAt_ > 1) ::ioctl(socket_.fd(), SIOCINQ, &waiting);
  return tls_->bytesReceived() + static_cast<uint64_t>(waiting);
}

uint8_t* FrameInput::Data() { return longFrame_ != nullptr ? longFrame_->data() : pooled_.data(); }

size_t FrameInput::Capacity() const { return longFrame_ != nullptr ? longFrameSize_ : pooled_.size(); }

void FrameInput::Consume(size_t size) {
  begin_ += size;
  if (begin_ == end_) begin_ = end_ = 0;
}

void FrameInput::DropLongFrame() {
  if (longFrame_ == nullptr) return;
  shelf_.GiveBack(std::move(longFrame_));
  GiveBytesBack(std::exchange(longFrameSize_, 0));
}

void FrameInput::DropSetAside() {
  if (setAside_.empty()) return;
  setAside_ = ByteBuffer();
  GiveBytesBack(std::exchange(setAsideSize_, 0));
}

void FrameInput::ReleaseIfEmpty() {
  if (begin_ != end_) return;
  begin_ = end_ = 0;
  DropLongFrame();
  DropSetAside();
  GiveBufferBack();
}

void FrameInput::GiveBufferBack() {
  if (pooled_.size() == 0) return;
  pooled_ = io::PooledBuffer();
  --share_.buffers;
  if (share_.waiting > 0) share_.changed.Set();
}

void FrameInput::GiveBytesBack(size_t size) {
  if (size == 0) return;
  share_.bytes -= size;
  budget_.Release(size);
  if (share_.waiting > 0) share_.changed.Set();
}

bool FrameInput::FitsBuffer() const {
  const io::BufferPool& pool = loop_.receiveBuffers();
  return IsWithinShare(share_.buffers, 1, pool.count() - pool.inUse());
}

bool FrameInput::FitsBytes(size_t size) const { return IsWithinShare(share_.bytes, size, budget_.free()); }

// These wait, without a place in the queue of those who are within their share, until this workload is.
io::Task<void> FrameInput::AwaitBuffersShare() {
  ++share_.waiting;
  auto turn = co_await share_.buffersTurn.Lock();
  while (!FitsBuffer() && !socket_.cancelled()) {
    share_.changed.Reset();
    co_await share_.changed.Wait();
  }
  --share_.waiting;
}

io::Task<void> FrameInput::AwaitBytesShare(size_t size) {
  ++share_.waiting;
  auto turn = co_await share_.bytesTurn.Lock();
  while (!FitsBytes(size) && !socket_.cancelled()) {
    share_.changed.Reset();
    co_await share_.changed.Wait();
  }
  --share_.waiting;
}

void FrameInput::MoveToFront() {
  if (longFrame_ != nullptr || pooled_.size() == 0 || begin_ == 0) return;
  std::memmove(pooled_.data(), pooled_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
}

// The peer has to be waited for: gives the pool's buffer back if what is in it is little, or if others need it.
void FrameInput::SetAside() {
  if (pooled_.size() == 0) return;
  const size_t size = end_ - begin_;
  if (size > kCheapCopy) {
    if (!loop_.receiveBuffers().scarce() || !FitsBytes(size) || !budget_.TryAcquire(size)) return;
    setAsideSize_ = size;
    share_.bytes += size;
  }
  setAside_.assign(pooled_.data() + begin_, pooled_.data() + end_);
  begin_ = 0;
  end_ = size;
  GiveBufferBack();
}

io::Task<void> FrameInput::TakeBuffer() {
  waitingForMemory_ = true;
  if (!FitsBuffer()) {
    auto waiting = AwaitBuffersShare();
    co_await std::move(waiting);
  }
  ++share_.buffers;  // also while it waits for the others
  pooled_ = co_await loop_.receiveBuffers().Acquire();
  waitingForMemory_ = false;
  if (setAside_.empty()) co_return;
  std::memcpy(pooled_.data(), setAside_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  DropSetAside();
}

void FrameInput::Abandon() {
  begin_ = end_;
  ReleaseIfEmpty();
}

// The socket becomes readable when that much of a frame is there, or as much as the kernel can hold of it, or at its
// end.
void FrameInput::WakeUpAt(size_t missing) {
  if (tls_ == nullptr) return;
  // The session may hold all but the last byte of a record, which will not come again.
  constexpr size_t kHeld = 2 * io::TlsSession::kRecordSize;
  const size_t size = missing > kHeld ? std::min(missing - kHeld, kTlsWakeUpSize) : 1;
  if (size == wakesUpAt_) return;
  const int bytes = static_cast<int>(size);
  if (::setsockopt(socket_.fd(), SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)) == 0) wakesUpAt_ = size;
}

io::Task<absl::StatusOr<bool>> FrameInput::Fill() {
  ReleaseIfEmpty();
  WakeUpAt(1);
  MoveToFront();
  auto some = ReceiveSome();
  co_return co_await std::move(some);
}

io::Task<absl::StatusOr<bool>> FrameInput::ReceiveSome() {
  for (;;) {
    if (!mayHaveMore()) {
      SetAside();
      const absl::Status readable = co_await socket_.Readable(io::Deadline::max());
      if (!readable.ok()) co_return readable;
    }
    if (longFrame_ == nullptr && pooled_.size() == 0) {
      auto taking = TakeBuffer();
      co_await std::move(taking);
    }
    const MutableBytes room(Data() + end_, Capacity() - end_);
    int received;
    if (tls_ != nullptr) {
      received = tls_->Recv(room);
    } else {
      received = co_await socket_.Recv(room);
    }
    mayHaveMore_ = tls_ == nullptr && received > 0 && socket_.more();
    if (received > 0) {
      end_ += static_cast<size_t>(received);
      received_ += static_cast<size_t>(received);
      receivedInAll_ += static_cast<size_t>(received);
      co_return true;
    }
    if (received == 0) co_return false;
    if (received == -EAGAIN || received == -EINTR) {
      ReleaseIfEmpty();
      continue;
    }
    if (received == -EPROTO) co_return absl::UnavailableError(StrCat("TLS: ", tls_->session().problem()));
    co_return absl::UnavailableError(std::strerror(-received));
  }
}

io::Task<void> FrameInput::MoveToLongFrame(size_t size) {
  waitingForMemory_ = true;
  if (!FitsBytes(size)) {
    auto waiting = AwaitBytesShare(size);
    co_await std::move(waiting);
  }
  share_.bytes += size;  // also while it waits for the others
  auto room = budget_.Acquire(size);
  co_await std::move(room);
  waitingForMemory_ = false;
  auto frame = shelf_.Take(size + kTailPadding);
  frame->resize(size + kTailPadding);
  const Bytes before = buffered();
  if (!before.empty()) std::memcpy(frame->data(), before.data(), before.size());
  end_ -= begin_;
  begin_ = 0;
  longFrame_ = std::move(frame);
  longFrameSize_ = size;
  DropSetAside();
  GiveBufferBack();
}

io::Task<absl::StatusOr<bool>> FrameInput::FillTo(size_t size) {
  if (longFrame_ == nullptr && size > loop_.receiveBuffers().bufferSize()) {
    auto beginning = ReceiveTo(std::min(kEarnestSize, loop_.receiveBuffers().bufferSize()));
    absl::StatusOr<bool> begun = co_await std::move(beginning);
    if (!begun.ok() || !*begun) co_return begun;
    auto moved = MoveToLongFrame(size);
    co_await std::move(moved);
  }
  auto receiving = ReceiveTo(size);
  co_return co_await std::move(receiving);
}

io::Task<absl::StatusOr<bool>> FrameInput::ReceiveTo(size_t size) {
  while (end_ - begin_ < size) {
    MoveToFront();
    WakeUpAt(size - (end_ - begin_));
    auto some = ReceiveSome();
    absl::StatusOr<bool> more = co_await std::move(some);
    if (!more.ok() || !*more) co_return more;
  }
  co_return true;
}

}  // namespace kveil::proxy
