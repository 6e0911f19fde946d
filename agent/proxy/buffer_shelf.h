// Growable buffers for long frames and rewritten messages, and the writers of these, reused so that a busy connection
// does not ask the system for fresh pages. A connection that has nothing to send has none.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "kafka/frame_writer.h"

namespace kveil::proxy {

// The spare buffers of one worker thread. Keeps at most `keepBytes` of capacity.
class BufferShelf {
 public:
  explicit BufferShelf(size_t keepBytes = 32 << 20) : keepBytes_(keepBytes) {}

  // Returns an empty buffer for about so many bytes (0: not known). Its capacity is not many times that, so that a few
  // bytes that are sent slowly do not hold a large buffer.
  std::unique_ptr<ByteBuffer> Take(size_t size = 0) {
    const size_t least = size == 0 ? 0 : ClassFor(size);
    const size_t most = size == 0 ? kClasses : std::min(kClasses, least + kClassesAbove);
    for (size_t i = least; i < most; ++i) {
      if (spare_[i].empty()) continue;
      std::unique_ptr<ByteBuffer> buffer = std::move(spare_[i].back());
      spare_[i].pop_back();
      keptBytes_ -= buffer->capacity();
      buffer->clear();
      return buffer;
    }
    auto buffer = std::make_unique<ByteBuffer>();
    buffer->reserve(size);
    return buffer;
  }

  void GiveBack(std::unique_ptr<ByteBuffer> buffer) {
    const size_t capacity = buffer->capacity();
    if (capacity == 0 || keptBytes_ + capacity > keepBytes_) return;
    keptBytes_ += capacity;
    spare_[std::min(kClasses, static_cast<size_t>(std::bit_width(capacity))) - 1].push_back(std::move(buffer));
  }

  // An empty one.
  std::unique_ptr<kafka::FrameWriter> TakeWriter() {
    if (writers_.empty()) return std::make_unique<kafka::FrameWriter>();
    std::unique_ptr<kafka::FrameWriter> writer = std::move(writers_.back());
    writers_.pop_back();
    return writer;
  }
  void GiveBack(std::unique_ptr<kafka::FrameWriter> writer) {
    if (writers_.size() == kKeptWriters) return;
    writer->Clear();
    writers_.push_back(std::move(writer));
  }

  size_t keptBytes() const { return keptBytes_; }
  size_t spareWriters() const { return writers_.size(); }

 private:
  // Of powers of two. Class i holds capacities from 2^i to 2^(i+1) - 1.
  static constexpr size_t kClasses = 32;
  static constexpr size_t kClassesAbove = 2;
  static constexpr size_t kKeptWriters = 64;

  // The first class whose buffers all have that capacity.
  static size_t ClassFor(size_t size) { return std::min(kClasses - 1, static_cast<size_t>(std::bit_width(size - 1))); }

  size_t keepBytes_;
  size_t keptBytes_ = 0;
  std::array<std::vector<std::unique_ptr<ByteBuffer>>, kClasses> spare_;
  std::vector<std::unique_ptr<kafka::FrameWriter>> writers_;
};

}  // namespace kveil::proxy
