// Coroutines: what runs when, and that neither many nor deep tasks eat the stack.
#include "io/task.h"

#include <cstdint>
#include <memory>
#include <string>

#include "harness.h"
#include "io/both.h"
#include "io/event.h"

namespace kveil::io {
namespace {

using TaskTest = LoopTest;

Task<void> Note(std::string* notes, char note) {
  notes->push_back(note);
  co_return;
}

Task<void> AwaitLater(std::string* notes) {
  auto task = Note(notes, 'b');
  notes->push_back('a');
  co_await std::move(task);
  notes->push_back('c');
}

TEST_F(TaskTest, RunsOnlyWhenItIsAwaited) {
  std::string notes;
  RunToEnd(AwaitLater(&notes));
  EXPECT_EQ(notes, "abc");
}

TEST_F(TaskTest, MayBeDestroyedWithoutHavingRun) {
  std::string notes;
  { const auto task = Note(&notes, 'a'); }
  EXPECT_EQ(notes, "");
}

Task<std::unique_ptr<int>> MakeMoveOnly(Loop& loop, bool waits) {
  if (waits) co_await loop.Sleep(std::chrono::milliseconds(1));
  co_return std::make_unique<int>(7);
}

Task<void> TakeMoveOnly(Loop& loop, int* sum) {
  for (const bool waits : {false, true}) {
    auto making = MakeMoveOnly(loop, waits);
    const std::unique_ptr<int> made = co_await std::move(making);
    *sum += *made;
  }
}

TEST_F(TaskTest, ReturnsAMoveOnlyValueWhetherItWaitedOrNot) {
  int sum = 0;
  RunToEnd(TakeMoveOnly(*loop_, &sum));
  EXPECT_EQ(sum, 14);
}

// How far apart the stack was between calls of Look.
class StackWatch {
 public:
  [[gnu::noinline]] void Look() {
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    lowest_ = std::min(lowest_, here);
    highest_ = std::max(highest_, here);
  }
  size_t Spread() const { return highest_ - lowest_; }

 private:
  uintptr_t lowest_ = UINTPTR_MAX;
  uintptr_t highest_ = 0;
};

constexpr size_t kLittleStack = 16 << 10;

Task<int> EndAtOnce(StackWatch& stack, int value) {
  stack.Look();
  co_return value;
}

Task<void> AwaitMany(StackWatch& stack, int count, int64_t* sum) {
  for (int i = 0; i < count; ++i) {
    auto task = EndAtOnce(stack, i);
    *sum += co_await std::move(task);
  }
}

TEST_F(TaskTest, AMillionTasksThatEndAtOnceUseNoStack) {
  StackWatch stack;
  int64_t sum = 0;
  RunToEnd(AwaitMany(stack, 1'000'000, &sum));
  EXPECT_EQ(sum, int64_t{999'999} * 500'000);
  EXPECT_LT(stack.Spread(), kLittleStack);
}

// Two coroutines that wake each other without the kernel.
struct Swing {
  Event there;
  Event back;
};

Task<void> SwingOnce(StackWatch& stack, Event& arrives, Event& leaves) {
  stack.Look();
  co_await arrives.Wait();
  arrives.Reset();
  leaves.Set();
}

Task<void> SwingMany(StackWatch& stack, Event& arrives, Event& leaves, int count) {
  for (int i = 0; i < count; ++i) {
    auto once = SwingOnce(stack, arrives, leaves);
    co_await std::move(once);
  }
}

TEST_F(TaskTest, ManyTasksThatWaitUseNoStack) {
  StackWatch stack;
  Swing swing;
  swing.there.Set();
  RunToEnd(SwingMany(stack, swing.there, swing.back, 200'000), SwingMany(stack, swing.back, swing.there, 200'000));
  EXPECT_LT(stack.Spread(), kLittleStack);
}

Task<int> Descend(Loop& loop, int depth, StackWatch& endings) {
  int below = 0;
  if (depth == 0) {
    co_await loop.Sleep(std::chrono::nanoseconds(0));
  } else {
    auto deeper = Descend(loop, depth - 1, endings);
    below = co_await std::move(deeper);
  }
  endings.Look();
  co_return below + 1;
}

Task<void> DescendFrom(Loop& loop, int depth, StackWatch& endings, int* levels) {
  auto descending = Descend(loop, depth, endings);
  *levels = co_await std::move(descending);
}

TEST_F(TaskTest, AThousandNestedTasksThatWaitedEndWithoutNesting) {
  StackWatch endings;
  int levels = 0;
  RunToEnd(DescendFrom(*loop_, 1000, endings, &levels));
  EXPECT_EQ(levels, 1001);
  EXPECT_LT(endings.Spread(), kLittleStack);
}

Task<void> WaitThenNote(Event& event, std::string* notes, char note) {
  co_await event.Wait();
  notes->push_back(note);
}

Task<void> SetThenNote(Event& event, std::string* notes, char note) {
  event.Set();
  notes->push_back(note);
  co_return;
}

Task<void> RunBoth(Task<void> first, Task<void> second, std::string* notes) {
  auto both = Both(std::move(first), std::move(second));
  co_await std::move(both);
  notes->push_back('.');
}

TEST_F(TaskTest, BothRunConcurrentlyAndEndTogether) {
  std::string notes;
  Event event;
  RunToEnd(RunBoth(WaitThenNote(event, &notes, 'a'), SetThenNote(event, &notes, 'b'), &notes));
  EXPECT_EQ(notes, "ba.");
}

TEST_F(TaskTest, BothWaitForTheSecondWhenTheFirstHasEnded) {
  std::string notes;
  Event event;
  RunToEnd(RunBoth(Note(&notes, 'a'), WaitThenNote(event, &notes, 'c'), &notes), SetThenNote(event, &notes, 'b'));
  EXPECT_EQ(notes, "abc.");
}

Task<void> WaitForEver(Event& never) { co_await never.Wait(); }

TEST(TaskDeathTest, DestroyingASuspendedTaskEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        Event never;
        auto task = WaitForEver(never);
        task.Start();
      },
      "a task was destroyed while it waited");
}

}  // namespace
}  // namespace kveil::io
