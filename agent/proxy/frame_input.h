// Turns the bytes of one socket into frames: reads as much as there is, and lets many frames be taken out of one read.
//
//   while (bytes arrive: co_await input.Fill())
//     look at input.buffered(), take what is complete with Consume(), send it, and only then Fill() again:
//     Fill() moves what is left to the front, so views into buffered() end there.
//
// An idle input holds no buffer. One that waits for the rest of a message holds a buffer only while there are plenty:
// peers that begin a message and fall silent must not take the buffers of others. A frame longer than the pool's
// buffers gets memory of its own with FillTo().
#pragma once

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "io/buffer_pool.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/tls_stream.h"
#include "proxy/buffer_shelf.h"
#include "proxy/memory_budget.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

class FrameInput {
 public:
  // `share` is that of the workload that the bytes are for.
  FrameInput(io::Loop& loop, io::Socket& socket, BufferShelf& shelf, MemoryBudget& budget, WorkloadShare& share)
      : loop_(loop), socket_(socket), shelf_(shelf), budget_(budget), share_(share) {}
  FrameInput(const FrameInput&) = delete;
  FrameInput& operator=(const FrameInput&) = delete;
  ~FrameInput() { Abandon(); }

  // From here on the socket's bytes are TLS.
  void UseTls(io::TlsStream& tls) { tls_ = &tls; }

  // Waits for more bytes than are buffered. False at the end of the stream; an error when the connection broke.
  io::Task<absl::StatusOr<bool>> Fill();

  // Waits until at least `size` bytes are buffered. False when the stream ended before.
  io::Task<absl::StatusOr<bool>> FillTo(size_t size);

  Bytes buffered() const;
  // Whether a message has begun that is not complete yet, and the peer is the one to continue.
  bool IsStalled() const { return begin_ != end_ && !waitingForMemory_; }
  // Whether there are bytes to read and no room for them.
  bool waitsForMemory() const { return waitingForMemory_; }
  // Whether it has memory that others may be waiting for.
  bool holdsMemory() const { return pooled_.size() > 0 || longFrame_ != nullptr || setAsideSize_ > 0; }
  void Consume(size_t size);

  // Bytes received since the last call, for the counters.
  size_t TakeReceivedCount() { return std::exchange(received_, 0); }
  // Changes when the peer has sent something, also when that is not read yet: until there is enough of it (WakeUpAt),
  // or a whole record.
  uint64_t Progress() const;

  // Gives an emptied buffer back; call when everything buffered has been consumed and sent.
  void ReleaseIfEmpty();

  // Forgets what is buffered and gives all memory back: nothing will be read any more.
  void Abandon();

 private:
  size_t Capacity() const;
  bool mayHaveMore() const { return mayHaveMore_ || (tls_ != nullptr && tls_->hasInput()); }
  uint8_t* Data();
  void MoveToFront();
  io::Task<absl::StatusOr<bool>> ReceiveSome();
  void SetAside();
  io::Task<void> TakeBuffer();
  void GiveBufferBack();
  bool FitsBuffer() const;
  bool FitsBytes(size_t size) const;
  io::Task<void> AwaitBuffersShare();
  io::Task<void> AwaitBytesShare(size_t size);
  void GiveBytesBack(size_t size);
  void WakeUpAt(size_t missing);
  io::Task<absl::StatusOr<bool>> ReceiveTo(size_t size);
  io::Task<void> MoveToLongFrame(size_t size);
  void DropLongFrame();
  void DropSetAside();

  io::Loop& loop_;
  io::Socket& socket_;
  io::TlsStream* tls_ = nullptr;
  BufferShelf& shelf_;
  MemoryBudget& budget_;
  WorkloadShare& share_;
  io::PooledBuffer pooled_;
  std::unique_ptr<ByteBuffer> longFrame_;  // in place of pooled_ while a frame does not fit there
  size_t longFrameSize_ = 0;               // what was taken from the budget
  ByteBuffer setAside_;                    // what is buffered, while pooled_ is given back until more comes
  size_t setAsideSize_ = 0;                // what was taken from the budget for it
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t received_ = 0;
  uint64_t receivedInAll_ = 0;
  size_t wakesUpAt_ = 1;  // the socket's SO_RCVLOWAT
  bool mayHaveMore_ = false;
  bool waitingForMemory_ = false;
};

}  // namespace kveil::proxy
