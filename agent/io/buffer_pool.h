// The receive buffers of one thread: a bounded stack, so that the buffer used last, still in the cache, is used next.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "io/ready_queue.h"

namespace kveil::io {

class BufferPool;

// Owns one buffer of a pool, or none. BufferPool::kTailPadding readable bytes follow its size() bytes.
class PooledBuffer {
 public:
  PooledBuffer() = default;
  PooledBuffer(PooledBuffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
  PooledBuffer& operator=(PooledBuffer&& other) noexcept;
  ~PooledBuffer() { GiveBack(); }

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const;  // 0: owns none

 private:
  friend class BufferPool;
  PooledBuffer(BufferPool* pool, uint8_t* data) : pool_(pool), data_(data) {}
  void GiveBack();

  BufferPool* pool_ = nullptr;
  uint8_t* data_ = nullptr;
};

class BufferPool {
 public:
  static constexpr size_t kTailPadding = 64;

  // Reserves address space; buffers take memory only when used. valid() is false if there is too little address space.
  BufferPool(size_t bufferSize, size_t count);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  bool valid() const { return region_ != nullptr; }

  class Awaiter {
   public:
    explicit Awaiter(BufferPool& pool) : pool_(pool) {}
    bool await_ready() {
      data_ = pool_.TakeIdle();
      return data_ != nullptr;
    }
    void await_suspend(std::coroutine_handle<> coroutine) {
      waiter_.awaiter = this;
      waiter_.coroutine = coroutine;
      ++pool_.waiting_;
      pool_.waiters_.Push(waiter_);
    }
    PooledBuffer await_resume() { return PooledBuffer(&pool_, std::exchange(data_, nullptr)); }

   private:
    friend class BufferPool;
    struct BufferWaiter : Waiter {
      Awaiter* awaiter = nullptr;
    };
    BufferPool& pool_;
    uint8_t* data_ = nullptr;
    BufferWaiter waiter_;
  };
  // Waits, first come first served, while all buffers are in use. A connection without a buffer does not read, which
  // slows its peer.
  Awaiter Acquire() { return Awaiter(*this); }

  size_t bufferSize() const { return bufferSize_; }
  size_t count() const { return count_; }
  size_t inUse() const { return count_ - idle_.size(); }
  size_t waiting() const { return waiting_; }
  // Whether more than half of the buffers are in use. If so, a connection that only waits for its peer returns its own.
  bool scarce() const { return idle_.size() < count_ / 2; }

  // Returns to the system the memory of buffers unused since the last call, except for a few kept warm. The loop calls
  // this now and then.
  void ReleaseColdMemory();
  // Whether ReleaseColdMemory may find something to do.
  bool HasColdMemory() const;

 private:
  friend class PooledBuffer;
  uint8_t* TakeIdle();
  void Put(uint8_t* data);

  const size_t bufferSize_;
  const size_t stride_;
  const size_t count_;
  uint8_t* region_ = nullptr;
  std::vector<uint8_t*> idle_;  // a stack
  size_t untouched_;            // as many at the bottom hold no memory
  size_t fewestIdle_;           // since the last ReleaseColdMemory
  WaiterList waiters_;
  size_t waiting_ = 0;
};

}  // namespace kveil::io
