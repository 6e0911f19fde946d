// The event loop: one ring, one thread, and the coroutines that wait on it.
//
//   auto loop = io::Loop::Create({});
//   std::thread thread([&] { (*loop)->Spawn(Serve(**loop)); (*loop)->Run(); });
//   ...
//   (*loop)->Stop();   // Run returns when every spawned task has ended
//   thread.join();
//
// A turn: what other threads posted, then the coroutines that may go on, then one system call that submits what they
// asked for and waits, then all completions that are there. So the receives of a turn go out together, and so do its
// sends.
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
    unsigned completionEntries = 16384;  // about four for every connection; more are kept by the kernel, slowly
    size_t receiveBufferSize = 1 << 20;  // bytes
    size_t receiveBufferCount = 64;
  };

  // Any thread; Run may be another's. kFailedPrecondition where io_uring is forbidden or too old: says by what
  // (kernel.io_uring_disabled, seccomp, RLIMIT_MEMLOCK, the kernel) and what to change. kResourceExhausted: no address
  // space.
  static absl::StatusOr<std::unique_ptr<Loop>> Create(const Options& options);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs on the calling thread until Stop was called and every spawned task has ended. Once.
  void Run();

  // Any thread. What was posted before it still runs.
  void Stop();
  bool stopping() const { return stopping_.load(std::memory_order_acquire); }
  // Any thread: runs the function on the loop's thread, in the order of the calls. What is posted after Run has
  // returned never runs.
  void Post(absl::AnyInvocable<void()> work);

  // The loop's thread, or any before Run: the task starts when the running coroutine has suspended, and is the loop's
  // until it ends.
  void Spawn(Task<void> task);
  size_t taskCount() const { return taskCount_; }  // the loop's thread

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

    // Ends the sleep ahead of its time. It may have ended, or not have begun.
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

  // Lets everybody else go first: all who are ready, and all that the kernel has for them. For long work in steps.
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
  YieldAwaiter Yield() { return YieldAwaiter(*this); }

  BufferPool& receiveBuffers() { return receiveBuffers_; }

  // For the operations of this folder; the loop's thread. Submits the operation at the end of this turn; when the
  // deadline passes before it has ended it is cancelled and `timedOut` is set.
  void Submit(Operation& operation, Deadline deadline);
  // Asks the kernel to end a pending operation; its completion still comes.
  void Cancel(Operation& operation);

 private:
  struct Ring;
  struct Detached;

  // What waits for a free submission entry. A cancellation only names its operation, which may have ended by then;
  // since the order is kept, it never meets a later operation in the same memory.
  struct Submission {
    Operation* operation;
    bool cancellation;
  };

  // Other threads write to an eventfd when they have posted something.
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
  std::vector<absl::AnyInvocable<void()>> posting_;  // those that run now
};

}  // namespace kveil::io
