#include "proxy/frame_input.h"

#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace kveil::proxy {
namespace {

// JSON parsing reads a little beyond a value's end, so every buffer that holds records has this much more memory.
constexpr size_t kTailPadding = 64;

}  // namespace

Bytes FrameInput::buffered() const {
  const uint8_t* data = longFrame_ != nullptr ? longFrame_->data() : pooled_.data();
  if (begin_ == end_) return {};
  return Bytes(data + begin_, end_ - begin_);
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
  budget_.Release(longFrameSize_);
  longFrameSize_ = 0;
}

void FrameInput::ReleaseIfEmpty() {
  if (begin_ != end_) return;
  begin_ = end_ = 0;
  DropLongFrame();
  pooled_ = io::PooledBuffer();
}

void FrameInput::Abandon() {
  begin_ = end_;
  ReleaseIfEmpty();
}

io::Task<absl::StatusOr<bool>> FrameInput::Fill() {
  ReleaseIfEmpty();
  if (longFrame_ == nullptr && begin_ > 0) {
    std::memmove(pooled_.data(), pooled_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  auto some = ReceiveSome();
  co_return co_await std::move(some);
}

io::Task<absl::StatusOr<bool>> FrameInput::ReceiveSome() {
  for (;;) {
    if (!mayHaveMore()) {
      const absl::Status readable = co_await socket_.Readable(io::Deadline::max());
      if (!readable.ok()) co_return readable;
    }
    if (longFrame_ == nullptr && pooled_.size() == 0) pooled_ = co_await loop_.receiveBuffers().Acquire();
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
      co_return true;
    }
    if (received == 0) co_return false;
    if (received == -EAGAIN || received == -EINTR) {
      ReleaseIfEmpty();
      continue;
    }
    if (received == -EPROTO) co_return absl::UnavailableError("TLS: what came cannot be decrypted");
    co_return absl::UnavailableError(std::strerror(-received));
  }
}

io::Task<void> FrameInput::MoveToLongFrame(size_t size) {
  waitingForMemory_ = true;
  auto room = budget_.Acquire(size);
  co_await std::move(room);
  waitingForMemory_ = false;
  longFrameSize_ = size;
  longFrame_ = shelf_.Take();
  longFrame_->resize(size + kTailPadding);
  if (begin_ != end_) std::memcpy(longFrame_->data(), pooled_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  pooled_ = io::PooledBuffer();
}

io::Task<absl::StatusOr<bool>> FrameInput::FillTo(size_t size) {
  if (longFrame_ == nullptr && size > loop_.receiveBuffers().bufferSize()) {
    auto moved = MoveToLongFrame(size);
    co_await std::move(moved);
  }
  while (end_ - begin_ < size) {
    if (longFrame_ == nullptr && begin_ > 0) {
      std::memmove(pooled_.data(), pooled_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    auto some = ReceiveSome();
    absl::StatusOr<bool> more = co_await std::move(some);
    if (!more.ok() || !*more) co_return more;
  }
  co_return true;
}

}  // namespace kveil::proxy
