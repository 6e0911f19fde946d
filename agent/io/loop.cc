#include "io/loop.h"

#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/mutex.h"
#include "base/text.h"
#include "io/bug.h"
#include "io/ring.h"

namespace kveil::io {
namespace {

// After so many coroutines the loop looks at the ring again, so that those that keep each other ready starve nobody.
constexpr size_t kResumesPerTurn = 1024;
constexpr std::chrono::seconds kColdMemoryPeriod{1};

}  // namespace

// The coroutine that owns a spawned task.
struct Loop::Detached {
  struct promise_type {
    static void* operator new(size_t size) { return internal::AllocateFrame(size); }
    static void operator delete(void* frame, size_t size) noexcept { internal::FreeFrame(frame, size); }
    Detached get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() noexcept { std::terminate(); }
    Waiter waiter;
  };
  std::coroutine_handle<promise_type> handle;
};

void Operation::OnTime(Loop& loop) {
  timedOut_ = true;
  loop.Cancel(*this);
}

void Loop::WakeUpRead::Prepare(io_uring_sqe& entry) {
  io_uring_prep_read(&entry, eventFd.get(), &count, sizeof(count), 0);
}

void Loop::ColdMemoryTimer::OnTime(Loop& loop) {
  armed = false;
  loop.receiveBuffers_.ReleaseColdMemory();
}

Loop::Loop(const Options& options) : receiveBuffers_(options.receiveBufferSize, options.receiveBufferCount) {}

absl::StatusOr<std::unique_ptr<Loop>> Loop::Create(const Options& options) {
  std::unique_ptr<Loop> loop(new Loop(options));
  absl::StatusOr<std::unique_ptr<Ring>> ring = Ring::Create(options);
  if (!ring.ok()) return ring.status();
  loop->ring_ = *std::move(ring);
  if (!loop->receiveBuffers_.valid()) {
    return absl::ResourceExhaustedError(StrCat("no address space for ", options.receiveBufferCount,
                                               " receive buffers of ", options.receiveBufferSize, " bytes"));
  }
  loop->wakeUpRead_.eventFd.Reset(::eventfd(0, EFD_CLOEXEC));
  if (!loop->wakeUpRead_.eventFd.valid()) {
    return absl::ResourceExhaustedError(StrCat("eventfd: ", std::strerror(errno)));
  }
  return loop;
}

Loop::~Loop() {
  for (const std::coroutine_handle<> unstarted : spawnedBeforeRun_) unstarted.destroy();
  internal::Require(pendingOperations_ == 0, "a loop was destroyed while it ran");
}

void Loop::Stop() {
  stopping_.store(true, std::memory_order_release);
  WakeUp();
}

void Loop::WakeUp() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeUpRead_.eventFd.get(), &one, sizeof(one));
}

void Loop::Post(absl::AnyInvocable<void()> work) {
  // Under the lock: once the work can be taken, the loop may end and be gone.
  const MutexLock lock(postedMutex_);
  posted_.push_back(std::move(work));
  if (posted_.size() == 1) WakeUp();  // the first one has woken it up for the others, too
}

void Loop::RunPosted() {
  {
    const MutexLock lock(postedMutex_);
    posting_.swap(posted_);
  }
  for (absl::AnyInvocable<void()>& work : posting_) work();
  posting_.clear();
}

Loop::Detached Loop::RunDetached(Loop& loop, Task<void> task) {
  co_await std::move(task);
  --loop.taskCount_;
}

void Loop::Spawn(Task<void> task) {
  internal::Require(ready_ == nullptr || ready_ == &ReadyQueue::Current(), "Spawn was called on another thread");
  ++taskCount_;
  const Detached detached = RunDetached(*this, std::move(task));
  if (ready_ == nullptr) {
    spawnedBeforeRun_.push_back(detached.handle);
    return;
  }
  Waiter& waiter = detached.handle.promise().waiter;
  waiter.coroutine = detached.handle;
  ready_->Push(waiter);
}

void Loop::Run() {
  ring_->Enable();
  ready_ = &ReadyQueue::Current();
  for (const std::coroutine_handle<> unstarted : spawnedBeforeRun_) {
    Waiter& waiter = std::coroutine_handle<Detached::promise_type>::from_address(unstarted.address()).promise().waiter;
    waiter.coroutine = unstarted;
    ready_->Push(waiter);
  }
  spawnedBeforeRun_.clear();
  Submit(wakeUpRead_, Deadline::max());
  for (;;) {
    // Looked at first: what was posted before Stop is in the queue by now.
    const bool last = stopping();
    RunPosted();
    while (Waiter* const waiter = yielded_.Pop()) ready_->Push(*waiter);
    ready_->Run(kResumesPerTurn);
    if (last && taskCount_ == 0 && ready_->empty()) break;
    WatchColdMemory();
    SubmitAndCollect(/*mayWait=*/ready_->empty() && yielded_.empty());
    FireTimers();
  }
  DrainOperations();
}

// The kernel is done with everything of ours before Run returns.
void Loop::DrainOperations() {
  timers_.Remove(coldMemory_);
  wakeUpRead_.ended = true;
  Cancel(wakeUpRead_);
  while (pendingOperations_ > 0) SubmitAndCollect(/*mayWait=*/true);
}

void Loop::WatchColdMemory() {
  if (coldMemory_.armed || !receiveBuffers_.HasColdMemory()) return;
  coldMemory_.armed = true;
  timers_.Add(coldMemory_, std::chrono::steady_clock::now() + kColdMemoryPeriod);
}

void Loop::Submit(Operation& operation, Deadline deadline) {
  internal::Require(!operation.pending_, "an operation was submitted while it was pending");
  operation.pending_ = true;
  operation.timedOut_ = false;
  ++pendingOperations_;
  if (deadline != Deadline::max()) timers_.Add(operation, deadline);
  Enqueue({&operation, /*cancellation=*/false});
}

void Loop::Cancel(Operation& operation) {
  if (operation.pending_) Enqueue({&operation, /*cancellation=*/true});
}

void Loop::Enqueue(Submission submission) {
  io_uring_sqe* const entry = waitingForEntry_.empty() ? io_uring_get_sqe(&ring_->ring) : nullptr;
  if (entry == nullptr) {
    waitingForEntry_.push_back(submission);
  } else {
    Fill(submission, *entry);
  }
}

void Loop::Fill(const Submission& submission, io_uring_sqe& entry) {
  if (submission.cancellation) {
    io_uring_prep_cancel(&entry, submission.operation, 0);
    io_uring_sqe_set_data(&entry, nullptr);  // its own completion says nothing that the operation's does not
    return;
  }
  submission.operation->Prepare(entry);
  io_uring_sqe_set_data(&entry, submission.operation);
}

// Submits what found the submission queue full, except the last part, which goes with the call that waits.
void Loop::SubmitWaiting() {
  while (!waitingForEntry_.empty()) {
    while (!waitingForEntry_.empty()) {
      io_uring_sqe* const entry = io_uring_get_sqe(&ring_->ring);
      if (entry == nullptr) break;
      Fill(waitingForEntry_.front(), *entry);
      waitingForEntry_.pop_front();
    }
    if (waitingForEntry_.empty() || io_uring_submit(&ring_->ring) <= 0) return;
  }
}

int Loop::Enter(bool mayWait) {
  if (!mayWait || !waitingForEntry_.empty()) return io_uring_submit_and_get_events(&ring_->ring);
  if (timers_.empty()) return io_uring_submit_and_wait(&ring_->ring, 1);
  const Deadline now = std::chrono::steady_clock::now();
  const auto left = std::max(timers_.next(), now) - now;  // also of a time long ago
  const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  __kernel_timespec timeout{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  // Neither the pointer nor the count that liburing gives back can be relied on when the time ran out.
  io_uring_cqe* ignored = nullptr;
  return io_uring_submit_and_wait_timeout(&ring_->ring, &ignored, 1, &timeout, nullptr);
}

// Submits all requests, waits for a completion, a timer or another thread, and hands all completions to their
// operations. The coroutines resume later: none runs inside this.
void Loop::SubmitAndCollect(bool mayWait) {
  SubmitWaiting();
  const int entered = Enter(mayWait);
  if (entered < 0 && entered != -ETIME && entered != -EINTR && entered != -EAGAIN && entered != -EBUSY) {
    internal::Bug(StrCat("io_uring_enter: ", std::strerror(-entered)));
  }
  unsigned head = 0;
  unsigned seen = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(&ring_->ring, head, completion) {
    ++seen;
    auto* const operation = static_cast<Operation*>(io_uring_cqe_get_data(completion));
    if (operation != nullptr) Complete(*operation, completion->res, completion->flags);
  }
  io_uring_cq_advance(&ring_->ring, seen);
}

void Loop::Complete(Operation& operation, int32_t result, uint32_t flags) {
  operation.result_ = result;
  operation.flags_ = flags;
  const bool again = operation.OnCompletion();
  if ((flags & IORING_CQE_F_MORE) != 0) return;
  if (again) {
    Enqueue({&operation, /*cancellation=*/false});
    return;
  }
  operation.pending_ = false;
  --pendingOperations_;
  timers_.Remove(operation);
  if (operation.waiter.coroutine) ready_->Push(operation.waiter);
  operation.OnEnd();
}

void Loop::FireTimers() {
  if (timers_.empty()) return;
  const Deadline now = std::chrono::steady_clock::now();
  while (Timer* const due = timers_.PopDue(now)) due->OnTime(*this);
}

}  // namespace kveil::io
