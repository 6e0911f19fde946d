// Takes the place of keys/root/call_pool.cc, which has threads.
#include "simulated_calls.h"

#include <map>
#include <memory>
#include <utility>

#include "keys/root/call_pool.h"

namespace kveil::keys {
namespace {

struct Calls {
  size_t threads = 0;
  size_t running = 0;  // in tasks of their own
  Scheduler::Signal ended;
};

Scheduler* g_scheduler = nullptr;

std::map<const CallPool*, std::unique_ptr<Calls>>& AllCalls() {
  static std::map<const CallPool*, std::unique_ptr<Calls>> calls;
  return calls;
}

}  // namespace

void RunCallsOn(Scheduler* scheduler) { g_scheduler = scheduler; }

CallPool::CallPool(size_t threads, size_t mostWaiting) : mostWaiting_(mostWaiting) {
  AllCalls()[this] = std::make_unique<Calls>();
  AllCalls()[this]->threads = threads;
}

// In a task: waits for those that run, as a thread would.
CallPool::~CallPool() {
  Stop();
  Calls& calls = *AllCalls().at(this);
  while (calls.running > 0) g_scheduler->Wait(calls.ended, g_scheduler->now() + std::chrono::seconds(1));
  AllCalls().erase(this);
}

bool CallPool::Post(absl::AnyInvocable<void()> job) {
  const MutexLock lock(mutex_);
  if (isStopping_ || jobs_.size() >= mostWaiting_) return false;
  jobs_.push_back(std::move(job));
  Calls& calls = *AllCalls().at(this);
  if (calls.running == calls.threads) return true;
  ++calls.running;
  g_scheduler->Spawn([this] { Run(); });
  return true;
}

bool CallPool::hasRoom() const {
  const MutexLock lock(mutex_);
  return !isStopping_ && jobs_.size() < mostWaiting_;
}

void CallPool::Stop() {
  const MutexLock lock(mutex_);
  isStopping_ = true;
}

bool CallPool::isStopping() const {
  const MutexLock lock(mutex_);
  return isStopping_;
}

bool CallPool::Sleep(std::chrono::milliseconds time) {
  g_scheduler->SleepUntil(g_scheduler->now() + time);
  return !isStopping();
}

// A thread that ends when there is nothing to do.
void CallPool::Run() {
  for (;;) {
    absl::AnyInvocable<void()> job;
    {
      const MutexLock lock(mutex_);
      if (jobs_.empty()) break;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
  Calls& calls = *AllCalls().at(this);
  --calls.running;
  g_scheduler->Notify(calls.ended);
}

}  // namespace kveil::keys
