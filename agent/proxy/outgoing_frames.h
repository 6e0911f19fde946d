// The frames that leave in one send: slices of what came in, and frames written anew, in order.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <vector>

#include "base/bytes.h"
#include "kafka/frame_writer.h"
#include "proxy/arena.h"
#include "proxy/buffer_shelf.h"

namespace kveil::proxy {

class OutgoingFrames {
 public:
  OutgoingFrames(BufferShelf& shelf, MemoryBudget& budget) : shelf_(shelf), arena_(shelf, budget) {}
  OutgoingFrames(const OutgoingFrames&) = delete;
  OutgoingFrames& operator=(const OutgoingFrames&) = delete;
  ~OutgoingFrames() { Clear(); }

  // Bytes that stay where they are until Clear().
  void AddSlice(Bytes bytes) {
    size_ += bytes.size();
    if (!slices_.empty()) {
      iovec& last = slices_.back();
      if (static_cast<uint8_t*>(last.iov_base) + last.iov_len == bytes.data()) {
        last.iov_len += bytes.size();  // small messages of one read: one slice for all of them
        return;
      }
    }
    slices_.push_back(iovec{const_cast<uint8_t*>(bytes.data()), bytes.size()});
  }

  // A writer for one frame; AddWritten() puts what it holds behind the slices so far.
  kafka::FrameWriter& NewWriter() {
    writers_.push_back(shelf_.TakeWriter());
    return *writers_.back();
  }
  void AddWritten(kafka::FrameWriter& writer) {
    for (const iovec& slice : writer.Slices()) slices_.push_back(slice);
    size_ += writer.size();
    arena_.CountBeside(writer.ownBytes());
  }

  // Bytes that are kept here.
  void AddOwned(ByteBuffer bytes) {
    owned_.push_back(std::move(bytes));
    AddSlice(owned_.back());
  }

  Arena& arena() { return arena_; }
  const Arena& arena() const { return arena_; }
  absl::Span<const iovec> slices() const { return slices_; }
  size_t size() const { return size_; }
  bool empty() const { return slices_.empty(); }
  // Whether it is time to send: more would take more memory than sending at once is worth.
  bool isFull() const { return size_ + sent_ >= kMostBytes || writers_.size() >= kMostWriters; }

  // What was collected, and `besides` bytes out of the arena, has been sent, but a writer or a buffer of the arena is
  // still being filled.
  void ForgetSent(size_t besides) {
    sent_ += size_ + besides;
    slices_.clear();
    size_ = 0;
  }

  void Clear() {
    for (std::unique_ptr<kafka::FrameWriter>& writer : writers_) shelf_.GiveBack(std::move(writer));
    writers_.clear();
    // What a connection keeps for its next frames is little, whatever it has sent.
    slices_.clear();
    if (slices_.capacity() > kKeptSlices) slices_.shrink_to_fit();
    owned_.clear();
    arena_.Clear();
    size_ = 0;
    sent_ = 0;
  }

 private:
  static constexpr size_t kKeptSlices = 256;
  static constexpr size_t kMostBytes = 4 << 20;
  static constexpr size_t kMostWriters = 256;

  BufferShelf& shelf_;
  std::vector<iovec> slices_;
  std::vector<std::unique_ptr<kafka::FrameWriter>> writers_;
  std::vector<ByteBuffer> owned_;
  Arena arena_;
  size_t size_ = 0;
  size_t sent_ = 0;  // of the bytes that are still held
};

}  // namespace kveil::proxy
