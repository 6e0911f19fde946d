// The event loop: one ring, one thread, and the coroutines that wait on it.
//
//   auto loop = io::Loop::Create({});
//   std::thread thread([&] { (*loop)->Spawn(Serve(**loop)); (*loop)->Run(); });
//   ...
//   (*loop)->Stop();   // Run returns when every spawned task has ended
//   thread.join();
//
// A turn runs what other threads posted, then the coroutines that are ready. One system call then submits what they
// asked for and waits, and the turn ends by processing all completions. So a turn submits its receives together, and
// its sends.
#pragma once

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "io/buffer_pool.h"
#include "io/operation.h"
#include "io/ready_queue.h"
#include "io/task.h"
#include "io/timer_heap.h"

namespace kveil::io {

class Loop {
 public:
  struct Options {
    unsigned submissionEntries = 512;
    unsigned completionEntries = 16384;  // about four per connection; the kernel queues more, slowly
    size_t receiveBufferSize = 1 << 20;  // bytes
    size_t receiveBufferCount = 64;
  };

  // Any thread; another one may call Run. kFailedPrecondition: io_uring is forbidden or too old; the message names the
  // cause (kernel.io_uring_disabled, seccomp, RLIMIT_MEMLOCK, the kernel) and the remedy. kResourceExhausted: no
  // address space, or no descriptor.
  static absl::StatusOr<std::unique_ptr<Loop>> Create(const Options& options);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs on the calling thread until Stop has been called and every spawned task has ended. Call it once.
  void Run();

  // Any thread. Work posted before still runs.
  void Stop();
  bool stopping() const { return stopping_.load(std::memory_order_acquire); }
  // Any thread. Runs `work` on the loop's thread, in the order of the calls. Work posted after Run has returned never
  // runs.
  void Post(absl::AnyInvocable<void()> work);

  // Takes over the task and starts it when the running coroutine has suspended. On the loop's thread, or on any before
  // Run.
  void Spawn(Task<void> task);
  size_t taskCount() const { return taskCount_; }  // the loop's thread only

  // For one coroutine, once.
  class SleepAwaiter final : private Timer {
   public:
    SleepAwaiter(Loop& loop, Deadline until) : loop_(loop), until_(until) {}
    bool await_ready() const { return ended_; }
    void await_suspend(std::coroutine_handle<> coroutine) {
      waiter_.coroutine = coroutine;
      loop_.timers_.Add(*this, until_);
    }
    void await_resume() {}

    // Ends the sleep early. It may have ended already, or not have begun.
    void End() {
      if (ended_) return;
      loop_.timers_.Remove(*this);
      if (waiter_.coroutine) ReadyQueue::Current().Push(waiter_);
      ended_ = true;
    }

   private:
    void OnTime(Loop&) override {
      ended_ = true;
      ReadyQueue::Current().Push(waiter_);
    }

    Loop& loop_;
    Deadline until_;
    Waiter waiter_;
    bool ended_ = false;
  };
  SleepAwaiter Sleep(std::chrono::nanoseconds duration) {
    return SleepAwaiter(*this, std::chrono::steady_clock::now() + duration);
  }

  // Lets all other ready coroutines run first, and those with completions in the kernel. For long work in steps (Turn).
  class YieldAwaiter {
   public:
    explicit YieldAwaiter(Loop& loop) : loop_(loop) {}
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> coroutine) {
      waiter_.coroutine = coroutine;
      loop_.yielded_.Push(waiter_);
    }
    void await_resume() {}

   private:
    Loop& loop_;
    Waiter waiter_;
  };

  BufferPool& receiveBuffers() { return receiveBuffers_; }

  // For this folder's operations, on the loop's thread. Submits the operation at the end of the turn. If the deadline
  // passes first, cancels it and sets its timedOut().
  void Submit(Operation& operation, Deadline deadline);
  // Asks the kernel to end a pending operation; its completion still comes.
  void Cancel(Operation& operation);

 private:
  struct Ring;
  struct Detached;

  // Waits for a free submission entry. A cancellation only names its operation, which may have ended by then. As the
  // order is kept, it never meets a later operation in the same memory.
  struct Submission {
    Operation* operation;
    bool cancellation;
  };

  // Reads the eventfd with which other threads wake the loop.
  class WakeUpRead final : public Operation {
   public:
    void Prepare(io_uring_sqe& entry) override;
    bool OnCompletion() override { return !ended; }
    UniqueFd eventFd;
    uint64_t count = 0;
    bool ended = false;
  };

  class ColdMemoryTimer final : public Timer {
   public:
    void OnTime(Loop& loop) override;
    bool armed = false;
  };

  explicit Loop(const Options& options);
  static Detached RunDetached(Loop& loop, Task<void> task);
  void Enqueue(Submission submission);
  static void Fill(const Submission& submission, io_uring_sqe& entry);
  void SubmitWaiting();
  int Enter(bool mayWait);
  void SubmitAndCollect(bool mayWait);
  void Complete(Operation& operation, int32_t result, uint32_t flags);
  void WakeUp();
  void RunPosted();
  void FireTimers();
  void WatchColdMemory();
  void DrainOperations();

  std::unique_ptr<Ring> ring_;
  BufferPool receiveBuffers_;
  ColdMemoryTimer coldMemory_;
  TimerHeap timers_;
  ReadyQueue* ready_ = nullptr;  // of the thread that runs the loop
  WaiterList yielded_;           // ready again in the next turn
  std::vector<std::coroutine_handle<>> spawnedBeforeRun_;
  size_t taskCount_ = 0;
  size_t pendingOperations_ = 0;
  std::deque<Submission> waitingForEntry_;
  WakeUpRead wakeUpRead_;

  std::atomic<bool> stopping_{false};
  kveil::Mutex postedMutex_;
  std::vector<absl::AnyInvocable<void()>> posted_ ABSL_GUARDED_BY(postedMutex_);
  std::vector<absl::AnyInvocable<void()>> posting_;  // running now
};

}  // namespace kveil::io
