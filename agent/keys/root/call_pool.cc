#include "keys/root/call_pool.h"

#include <utility>

namespace kveil::keys {

CallPool::CallPool(size_t threads, size_t mostWaiting) : mostWaiting_(mostWaiting) {
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

CallPool::~CallPool() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

bool CallPool::Post(absl::AnyInvocable<void()> job) {
  {
    const MutexLock lock(mutex_);
    if (isStopping_ || jobs_.size() >= mostWaiting_) return false;
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
  return true;
}

bool CallPool::hasRoom() const {
  const MutexLock lock(mutex_);
  return !isStopping_ && jobs_.size() < mostWaiting_;
}

void CallPool::Stop() {
  {
    const MutexLock lock(mutex_);
    isStopping_ = true;
  }
  changed_.notify_all();
}

bool CallPool::isStopping() const {
  const MutexLock lock(mutex_);
  return isStopping_;
}

bool CallPool::Sleep(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  const MutexLock lock(mutex_);
  while (!isStopping_ && std::chrono::steady_clock::now() < end) changed_.wait_until(mutex_, end);
  return !isStopping_;
}

void CallPool::Run() {
  for (;;) {
    absl::AnyInvocable<void()> job;
    {
      const MutexLock lock(mutex_);
      while (jobs_.empty() && !isStopping_) changed_.wait(mutex_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace kveil::keys
