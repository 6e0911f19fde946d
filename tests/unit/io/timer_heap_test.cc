// The heap of timers against a sorted list.
#include "io/timer_heap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace kveil::io {
namespace {

class NumberedTimer final : public Timer {
 public:
  void OnTime(Loop&) override {}
  Deadline at;
  bool in = false;
};

Deadline At(int64_t time) { return Deadline(std::chrono::nanoseconds(time)); }

TEST(TimerHeapTest, IsEmptyAtFirst) {
  TimerHeap heap;
  EXPECT_TRUE(heap.empty());
  EXPECT_EQ(heap.next(), Deadline::max());
  EXPECT_EQ(heap.PopDue(Deadline::max()), nullptr);
}

TEST(TimerHeapTest, GivesWhatIsDueInOrderOfTimeAndKeepsTheRest) {
  TimerHeap heap;
  std::vector<std::unique_ptr<NumberedTimer>> timers;
  for (const int64_t time : {5, 1, 4, 2, 3}) {
    timers.push_back(std::make_unique<NumberedTimer>());
    timers.back()->at = At(time);
    heap.Add(*timers.back(), At(time));
  }
  for (const int64_t time : {1, 2, 3}) {
    EXPECT_EQ(heap.next(), At(time));
    EXPECT_EQ(static_cast<NumberedTimer*>(heap.PopDue(At(3)))->at, At(time));
  }
  EXPECT_EQ(heap.PopDue(At(3)), nullptr);
  EXPECT_EQ(heap.next(), At(4));
}

TEST(TimerHeapTest, AddingATimerAgainMovesIt) {
  TimerHeap heap;
  NumberedTimer timer;
  heap.Add(timer, At(1));
  heap.Add(timer, At(9));
  EXPECT_EQ(heap.PopDue(At(8)), nullptr);
  EXPECT_EQ(heap.PopDue(At(9)), &timer);
  EXPECT_TRUE(heap.empty());
}

TEST(TimerHeapTest, AgreesWithASortedListUnderRandomUse) {
  std::mt19937 random(1);
  TimerHeap heap;
  std::vector<std::unique_ptr<NumberedTimer>> timers;
  for (int i = 0; i < 200; ++i) timers.push_back(std::make_unique<NumberedTimer>());
  for (int step = 0; step < 20'000; ++step) {
    NumberedTimer& timer = *timers[random() % timers.size()];
    if (random() % 3 != 0) {
      timer.at = At(static_cast<int64_t>(random() % 1000));
      timer.in = true;
      heap.Add(timer, timer.at);
    } else {
      timer.in = false;
      heap.Remove(timer);
    }
    Deadline earliest = Deadline::max();
    for (const auto& each : timers) earliest = each->in ? std::min(earliest, each->at) : earliest;
    ASSERT_EQ(heap.next(), earliest);
    if (step % 7 == 0 && !heap.empty()) static_cast<NumberedTimer*>(heap.PopDue(earliest))->in = false;
  }
}

}  // namespace
}  // namespace kveil::io
