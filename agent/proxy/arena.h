// The buffers that outgoing frames refer to, charged to the worker's memory.
//
//   auto reserving = arena.Reserve(expected);              // ahead of the work, once for a message
//   const bool reserved = co_await std::move(reserving);
//   ByteBuffer& out = arena.NewBuffer(expected);
//   ... write to `out` ...
//   arena.CountGrowth();                                   // after each step, when it became more than expected
//   arena.ReturnRest();                                    // when the message is done
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "io/task.h"
#include "proxy/buffer_shelf.h"
#include "proxy/memory_budget.h"

namespace kveil::proxy {

// The buffers go back to the shelf, and the charge to the budget, when the bytes have left.
class Arena {
 public:
  Arena(BufferShelf& shelf, MemoryBudget& budget) : shelf_(shelf), budget_(budget) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { Clear(); }

  // Reserves room for so many bytes more than the buffers have now. Waits for it if this arena holds nothing. Returns
  // false if the arena holds something and there is no room.
  io::Task<bool> Reserve(size_t bytes) {
    if (TryReserve(bytes)) co_return true;
    if (charged_ > 0) co_return false;
    auto acquiring = budget_.AcquireOutput(bytes);
    co_await std::move(acquiring);
    charged_ += bytes;
    co_return true;
  }
  // The same without waiting.
  bool TryReserve(size_t bytes) {
    const size_t needed = capacity() + bytes;
    if (needed <= charged_) return true;
    if (!budget_.TryGrowOutput(charged_, needed - charged_)) return false;
    charged_ = needed;
    return true;
  }
  // Charges what the buffers have grown beyond what was reserved.
  void CountGrowth() {
    const size_t size = capacity();
    if (size <= charged_) return;
    budget_.CountOutput(size - charged_);
    charged_ = size;
  }
  // The same for what is held outside of the buffers until Clear().
  void CountBeside(size_t bytes) {
    besideBytes_ += bytes;
    CountGrowth();
  }
  // Gives back what was reserved and not used.
  void ReturnRest() {
    CountGrowth();
    budget_.ReleaseOutput(charged_ - capacity());
    charged_ = capacity();
  }

  // Returns a buffer that keeps its place until Clear(), for about so many bytes (0: not known).
  ByteBuffer& NewBuffer(size_t expected = 0) {
    if (!buffers_.empty()) olderBytes_ += buffers_.back()->capacity();
    buffers_.push_back(shelf_.Take(expected));
    return *buffers_.back();
  }

  size_t bufferCount() const { return buffers_.size(); }

  // Takes the newest buffer back at once: its content turned out not to be needed.
  void DropNewest() {
    shelf_.GiveBack(std::move(buffers_.back()));
    buffers_.pop_back();
    if (!buffers_.empty()) olderBytes_ -= buffers_.back()->capacity();
  }

  void Clear() {
    while (!buffers_.empty()) DropNewest();
    besideBytes_ = 0;
    budget_.ReleaseOutput(std::exchange(charged_, 0));
  }

  // Bytes that the buffers take, used or not, and what is held beside them.
  size_t capacity() const { return besideBytes_ + (buffers_.empty() ? 0 : olderBytes_ + buffers_.back()->capacity()); }
  size_t charged() const { return charged_; }
  MemoryBudget& budget() { return budget_; }

 private:
  BufferShelf& shelf_;
  MemoryBudget& budget_;
  std::vector<std::unique_ptr<ByteBuffer>> buffers_;
  size_t olderBytes_ = 0;  // of all but the newest, which no longer grow
  size_t besideBytes_ = 0;
  size_t charged_ = 0;
};

}  // namespace kveil::proxy
