// Growable buffers for rewritten messages, reused so that a busy connection does not ask the system for fresh pages.
#pragma once

#include <memory>
#include <vector>

#include "base/bytes.h"

namespace kveil::proxy {

// The spare buffers of one worker thread. Keeps at most `keepBytes` of capacity.
class BufferShelf {
 public:
  explicit BufferShelf(size_t keepBytes = 32 << 20) : keepBytes_(keepBytes) {}

  // An empty buffer; its capacity may be anything.
  std::unique_ptr<ByteBuffer> Take() {
    if (spare_.empty()) return std::make_unique<ByteBuffer>();
    std::unique_ptr<ByteBuffer> buffer = std::move(spare_.back());
    spare_.pop_back();
    keptBytes_ -= buffer->capacity();
    buffer->clear();
    return buffer;
  }

  void GiveBack(std::unique_ptr<ByteBuffer> buffer) {
    if (keptBytes_ + buffer->capacity() > keepBytes_) return;
    keptBytes_ += buffer->capacity();
    spare_.push_back(std::move(buffer));
  }

 private:
  size_t keepBytes_;
  size_t keptBytes_ = 0;
  std::vector<std::unique_ptr<ByteBuffer>> spare_;
};

// The buffers that one batch of outgoing frames refers to; they go back to the shelf when the bytes have left.
class Arena {
 public:
  explicit Arena(BufferShelf& shelf) : shelf_(shelf) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { Clear(); }

  // A buffer that keeps its place until Clear().
  ByteBuffer& NewBuffer() {
    buffers_.push_back(shelf_.Take());
    return *buffers_.back();
  }

  // Takes the newest buffer back at once: its content turned out not to be needed.
  void DropNewest() {
    shelf_.GiveBack(std::move(buffers_.back()));
    buffers_.pop_back();
  }

  void Clear() {
    while (!buffers_.empty()) DropNewest();
  }

 private:
  BufferShelf& shelf_;
  std::vector<std::unique_ptr<ByteBuffer>> buffers_;
};

}  // namespace kveil::proxy
