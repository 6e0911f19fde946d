// Time that goes on when nobody has anything to do, and tasks that take turns: one thread, and one seed, so the same
// seed is the same run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

namespace kveil::keys {

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next();
  // 0 to count - 1.
  uint64_t Below(uint64_t count) { return Next() % count; }
  // From `least` to `most`.
  std::chrono::microseconds Between(std::chrono::microseconds least, std::chrono::microseconds most);
  bool Percent(uint64_t percent) { return Below(100) < percent; }
  bool PerMille(uint64_t perMille) { return Below(1000) < perMille; }

 private:
  uint64_t state_;
};

class Scheduler {
 public:
  using Time = std::chrono::microseconds;  // true time, since the beginning

  explicit Scheduler(Random& random);
  ~Scheduler();

  Time now() const { return now_; }

  // Has `event` happen at that time, in an order with others of that time that the seed decides.
  void At(Time time, std::function<void()> event);
  // Begins a task, which has a stack of its own and waits by the calls below.
  void Spawn(std::function<void()> body);

  // Something that tasks wait for.
  class Signal {
   public:
    Signal() = default;
    Signal(const Signal&) = delete;
    Signal& operator=(const Signal&) = delete;

   private:
    friend class Scheduler;
    std::vector<struct Task*> waiting_;
  };
  // Tasks only. Until that time.
  void SleepUntil(Time time);
  // Until Notify, or that time. Whoever waits looks itself at what has happened.
  void Wait(Signal& signal, Time until);
  void Notify(Signal& signal);

  // Has events happen, in their order, up to that time.
  void RunUntil(Time time);
  // Until every task has ended. False: one has not after `most` events.
  bool RunToTheEnd(size_t most);
  size_t tasks() const { return running_; }

 private:
  friend struct Task;
  using Key = std::tuple<Time, uint64_t, uint64_t>;

  Key Add(Time time, std::function<void()> event);
  void Resume(Task& task);
  void Suspend(Task& task);
  void Wake(Task& task);
  static void Enter(unsigned high, unsigned low);

  Random& random_;
  Time now_{0};
  uint64_t added_ = 0;
  std::map<Key, std::function<void()>> events_;
  std::vector<std::unique_ptr<Task>> tasks_;
  std::vector<Task*> idle_;  // have ended, with stacks for those that begin
  Task* current_ = nullptr;
  size_t running_ = 0;
};

}  // namespace kveil::keys
