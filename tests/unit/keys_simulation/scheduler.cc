#include "scheduler.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#define KVEIL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KVEIL_ASAN 1
#endif
#endif
#ifdef KVEIL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace kveil::keys {
namespace {

// ASan's frames are several times larger.
constexpr size_t kStackSize = 1 << 20;

}  // namespace

uint64_t Random::Next() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

std::chrono::microseconds Random::Between(std::chrono::microseconds least, std::chrono::microseconds most) {
  return least + std::chrono::microseconds(Below(static_cast<uint64_t>((most - least).count()) + 1));
}

// AddressSanitizer has to be told of every change of stacks (sanitizer/common_interface_defs.h).
struct Task {
  std::function<void()> body;
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStackSize);
  ucontext_t context{}, outside{};
  Scheduler* scheduler = nullptr;
  Scheduler::Signal* waitsFor = nullptr;
  bool isTimed = false;
  Scheduler::Key timer;
  bool hasEnded = false;
  void* fakeStack = nullptr;
  const void* outsideStack = nullptr;
  size_t outsideSize = 0;

  void Leave() {
#ifdef KVEIL_ASAN
    __sanitizer_start_switch_fiber(hasEnded ? nullptr : &fakeStack, outsideStack, outsideSize);
#endif
    swapcontext(&context, &outside);
    Arrive();
  }
  void Arrive() {
#ifdef KVEIL_ASAN
    __sanitizer_finish_switch_fiber(fakeStack, &outsideStack, &outsideSize);
#endif
  }
};

Scheduler::Scheduler(Random& random) : random_(random) {}
Scheduler::~Scheduler() = default;

Scheduler::Key Scheduler::Add(Time time, std::function<void()> event) {
  const Key key{std::max(time, now_), random_.Next(), added_++};
  events_.emplace(key, std::move(event));
  return key;
}

void Scheduler::At(Time time, std::function<void()> event) { Add(time, std::move(event)); }

void Scheduler::Enter(unsigned high, unsigned low) {
  Task* const task = reinterpret_cast<Task*>(uintptr_t{high} << 32 | low);
  task->fakeStack = nullptr;
  task->Arrive();
  task->body();
  task->hasEnded = true;
  task->Leave();
  std::abort();
}

void Scheduler::Spawn(std::function<void()> body) {
  if (idle_.empty()) idle_.push_back(tasks_.emplace_back(std::make_unique<Task>()).get());
  Task& task = *idle_.back();
  idle_.pop_back();
  ++running_;
  task.body = std::move(body);
  task.hasEnded = false;
  task.scheduler = this;
  getcontext(&task.context);
  task.context.uc_stack.ss_sp = task.stack.get();
  task.context.uc_stack.ss_size = kStackSize;
  task.context.uc_link = nullptr;
  const auto address = reinterpret_cast<uintptr_t>(&task);
  makecontext(&task.context, reinterpret_cast<void (*)()>(&Scheduler::Enter), 2, static_cast<unsigned>(address >> 32),
              static_cast<unsigned>(address));
  At(now_, [this, &task] { Resume(task); });
}

void Scheduler::Resume(Task& task) {
  current_ = &task;
#ifdef KVEIL_ASAN
  void* fakeStack = nullptr;
  __sanitizer_start_switch_fiber(&fakeStack, task.stack.get(), kStackSize);
#endif
  swapcontext(&task.outside, &task.context);
#ifdef KVEIL_ASAN
  __sanitizer_finish_switch_fiber(fakeStack, nullptr, nullptr);
#endif
  current_ = nullptr;
  if (!task.hasEnded) return;
  task.body = nullptr;
  --running_;
  idle_.push_back(&task);
}

void Scheduler::Suspend(Task& task) { task.Leave(); }

void Scheduler::SleepUntil(Time time) {
  Signal none;
  Wait(none, time);
}

void Scheduler::Wait(Signal& signal, Time until) {
  Task& task = *current_;
  task.waitsFor = &signal;
  signal.waiting_.push_back(&task);
  task.timer = Add(until, [this, &task] {
    task.isTimed = false;
    Wake(task);
  });
  task.isTimed = true;
  Suspend(task);
}

void Scheduler::Wake(Task& task) {
  if (task.isTimed) events_.erase(task.timer);
  task.isTimed = false;
  if (task.waitsFor != nullptr) std::erase(task.waitsFor->waiting_, &task);
  task.waitsFor = nullptr;
  Resume(task);
}

void Scheduler::Notify(Signal& signal) {
  for (Task* const task : std::exchange(signal.waiting_, {})) {
    task->waitsFor = nullptr;
    if (task->isTimed) events_.erase(task->timer);
    task->isTimed = false;
    At(now_, [this, task] { Resume(*task); });
  }
}

void Scheduler::RunUntil(Time time) {
  while (!events_.empty() && std::get<Time>(events_.begin()->first) <= time) {
    auto event = events_.extract(events_.begin());
    now_ = std::get<Time>(event.key());
    event.mapped()();
  }
  now_ = time;
}

bool Scheduler::RunToTheEnd(size_t most) {
  for (size_t count = 0; running_ > 0; ++count) {
    if (count == most || events_.empty()) return false;
    auto event = events_.extract(events_.begin());
    now_ = std::get<Time>(event.key());
    event.mapped()();
  }
  return true;
}

}  // namespace kveil::keys
