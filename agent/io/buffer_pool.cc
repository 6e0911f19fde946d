#include "io/buffer_pool.h"

#include <sanitizer/asan_interface.h>  // does nothing without AddressSanitizer
#include <sys/mman.h>

#include <algorithm>

#include "io/bug.h"

namespace kveil::io {
namespace {

constexpr size_t kKeptWarm = 4;
constexpr size_t kPageSize = 4096;

}  // namespace

size_t PooledBuffer::size() const { return pool_ == nullptr ? 0 : pool_->bufferSize(); }

PooledBuffer& PooledBuffer::operator=(PooledBuffer&& other) noexcept {
  if (this == &other) return *this;
  GiveBack();
  pool_ = std::exchange(other.pool_, nullptr);
  data_ = std::exchange(other.data_, nullptr);
  return *this;
}

void PooledBuffer::GiveBack() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->Put(std::exchange(data_, nullptr));
}

BufferPool::BufferPool(size_t bufferSize, size_t count)
    : bufferSize_(bufferSize),
      stride_((bufferSize + kTailPadding + kPageSize - 1) / kPageSize * kPageSize),
      count_(count),
      untouched_(count),
      fewestIdle_(count) {
  void* const mapped =
      ::mmap(nullptr, stride_ * count_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return;
  region_ = static_cast<uint8_t*>(mapped);
  // Records in the clear pass through here: not for core dumps. Huge pages gain nothing here and would make a buffer
  // that holds one small request cost two megabytes.
  ::madvise(region_, stride_ * count_, MADV_DONTDUMP);
  ::madvise(region_, stride_ * count_, MADV_NOHUGEPAGE);
  ASAN_POISON_MEMORY_REGION(region_, stride_ * count_);
  idle_.reserve(count_);
  for (size_t i = count_; i > 0; --i) idle_.push_back(region_ + (i - 1) * stride_);
}

BufferPool::~BufferPool() {
  if (region_ == nullptr) return;
  internal::Require(inUse() == 0 && waiters_.empty(), "a buffer pool was destroyed while its buffers were in use");
  ASAN_UNPOISON_MEMORY_REGION(region_, stride_ * count_);
  ::munmap(region_, stride_ * count_);
}

// Nobody waits while a buffer is idle: Put hands it on. So this overtakes nobody.
uint8_t* BufferPool::TakeIdle() {
  if (idle_.empty()) return nullptr;
  uint8_t* const data = idle_.back();
  idle_.pop_back();
  untouched_ = std::min(untouched_, idle_.size());
  fewestIdle_ = std::min(fewestIdle_, idle_.size());
  ASAN_UNPOISON_MEMORY_REGION(data, stride_);
  return data;
}

void BufferPool::Put(uint8_t* data) {
  if (Waiter* const next = waiters_.Pop()) {
    --waiting_;
    static_cast<Awaiter::BufferWaiter*>(next)->awaiter->data_ = data;
    ReadyQueue::Current().Push(*next);
    return;
  }
  ASAN_POISON_MEMORY_REGION(data, stride_);
  idle_.push_back(data);
}

bool BufferPool::HasColdMemory() const { return idle_.size() > untouched_ + kKeptWarm; }

void BufferPool::ReleaseColdMemory() {
  const size_t cold = std::min(fewestIdle_, idle_.size() - std::min(idle_.size(), kKeptWarm));
  for (; untouched_ < cold; ++untouched_) ::madvise(idle_[untouched_], stride_, MADV_DONTNEED);
  fewestIdle_ = idle_.size();
}

}  // namespace kveil::io
