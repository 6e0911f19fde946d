// The buffers that rewritten messages are built in, the frames that leave together, and the bound on long frames.
#include <gtest/gtest.h>

#include "../io/harness.h"
#include "proxy/arena.h"
#include "proxy/buffer_shelf.h"
#include "proxy/memory_budget.h"
#include "proxy/outgoing_frames.h"

namespace kveil::proxy {
namespace {

TEST(BufferShelfTest, GivesABufferOutAgainEmpty) {
  BufferShelf shelf;
  auto buffer = shelf.Take();
  buffer->assign(1000, 7);
  const uint8_t* const memory = buffer->data();
  shelf.GiveBack(std::move(buffer));
  buffer = shelf.Take();
  EXPECT_TRUE(buffer->empty());
  EXPECT_GE(buffer->capacity(), 1000u);
  buffer->push_back(1);
  EXPECT_EQ(buffer->data(), memory);
}

TEST(BufferShelfTest, KeepsNoMoreThanItsBound) {
  BufferShelf shelf(10'000);
  for (int i = 0; i < 5; ++i) {
    auto buffer = std::make_unique<ByteBuffer>();
    buffer->reserve(4000);
    shelf.GiveBack(std::move(buffer));
  }
  size_t kept = 0;
  std::vector<std::unique_ptr<ByteBuffer>> taken;
  for (int i = 0; i < 5; ++i) {
    taken.push_back(shelf.Take());
    kept += taken.back()->capacity();
  }
  EXPECT_EQ(kept, 8000u);
  auto buffer = std::make_unique<ByteBuffer>();
  buffer->reserve(9000);
  shelf.GiveBack(std::move(buffer));
  EXPECT_GE(shelf.Take()->capacity(), 9000u) << "what was taken still counts";
}

TEST(BufferShelfTest, GivesNoLargeBufferForLittle) {
  BufferShelf shelf;
  auto large = std::make_unique<ByteBuffer>();
  large->reserve(1 << 20);
  shelf.GiveBack(std::move(large));
  EXPECT_LT(shelf.Take(1000)->capacity(), 4096u);
  const auto fitting = shelf.Take(700'000);
  EXPECT_EQ(fitting->capacity(), 1u << 20);
  EXPECT_EQ(shelf.keptBytes(), 0u);
  EXPECT_GE(shelf.Take(5000)->capacity(), 5000u);
}

TEST(ArenaTest, KeepsEachBufferInItsPlaceUntilItIsCleared) {
  BufferShelf shelf;
  MemoryBudget budget(1000);
  Arena arena(shelf, budget);
  ByteBuffer& first = arena.NewBuffer();
  first.assign(10, 1);
  const uint8_t* const memory = first.data();
  for (int i = 0; i < 100; ++i) arena.NewBuffer().assign(10, 2);
  arena.DropNewest();
  EXPECT_EQ(first.data(), memory);
  EXPECT_EQ(first, ByteBuffer(10, 1));
  arena.Clear();
  EXPECT_GE(shelf.Take()->capacity(), 10u) << "a cleared arena's buffers go back to the shelf";
}

TEST(ArenaTest, IsChargedForWhatItsBuffersTakeUntilItIsCleared) {
  BufferShelf shelf(0);
  MemoryBudget budget(10'000);
  Arena arena(shelf, budget);
  EXPECT_TRUE(arena.TryReserve(1000));
  EXPECT_TRUE(arena.TryReserve(1000)) << "is there already";
  EXPECT_EQ(budget.used(), 1000u);
  arena.NewBuffer().reserve(600);
  arena.NewBuffer().reserve(3000);
  arena.CountGrowth();
  EXPECT_EQ(budget.used(), 3600u);
  arena.DropNewest();
  EXPECT_TRUE(arena.TryReserve(3000)) << "in place of what was dropped";
  EXPECT_EQ(budget.used(), 3600u);
  arena.ReturnRest();
  EXPECT_EQ(budget.used(), 600u);
  Arena other(shelf, budget);
  EXPECT_TRUE(other.TryReserve(9400));
  EXPECT_FALSE(arena.TryReserve(1)) << "all of it is taken";
  other.Clear();
  EXPECT_TRUE(arena.TryReserve(20'000)) << "nobody else has any";
  arena.Clear();
  EXPECT_EQ(budget.used(), 0u);
}

std::string TextOf(const OutgoingFrames& frames) {
  std::string text;
  for (const iovec& slice : frames.slices()) text.append(static_cast<const char*>(slice.iov_base), slice.iov_len);
  EXPECT_EQ(text.size(), frames.size());
  return text;
}

TEST(OutgoingFramesTest, LeaveInTheOrderInWhichTheyWereAdded) {
  BufferShelf shelf;
  MemoryBudget budget(1000);
  OutgoingFrames frames(shelf, budget);
  EXPECT_TRUE(frames.empty());
  frames.AddSlice(AsBytes("one "));
  kafka::FrameWriter& unused = frames.NewWriter();
  unused.Copy("never ");
  kafka::FrameWriter& writer = frames.NewWriter();
  writer.Copy("two ");
  frames.AddWritten(writer);
  const std::string owned = "three ";
  frames.AddOwned(ByteBuffer(owned.begin(), owned.end()));
  frames.AddSlice(AsBytes("four"));
  EXPECT_EQ(TextOf(frames), "one two three four");
}

TEST(OutgoingFramesTest, KeepWhatTheyOwnWhileMoreIsAdded) {
  BufferShelf shelf;
  MemoryBudget budget(1000);
  OutgoingFrames frames(shelf, budget);
  std::string expected;
  for (int i = 0; i < 200; ++i) {
    frames.AddOwned(ByteBuffer(3, static_cast<uint8_t>('a' + i % 26)));
    expected.append(3, static_cast<char>('a' + i % 26));
    kafka::FrameWriter& writer = frames.NewWriter();
    writer.Copy("-");
    frames.AddWritten(writer);
    expected += '-';
  }
  EXPECT_EQ(TextOf(frames), expected);
}

TEST(OutgoingFramesTest, StartAnewWhenCleared) {
  BufferShelf shelf;
  MemoryBudget budget(1000);
  OutgoingFrames frames(shelf, budget);
  kafka::FrameWriter& writer = frames.NewWriter();
  writer.Copy("old");
  frames.AddWritten(writer);
  frames.Clear();
  EXPECT_TRUE(frames.empty());
  EXPECT_EQ(frames.size(), 0u);
  kafka::FrameWriter& again = frames.NewWriter();
  EXPECT_TRUE(again.empty());
  again.Copy("new");
  frames.AddWritten(again);
  EXPECT_EQ(TextOf(frames), "new");
}

TEST(OutgoingFramesTest, AreChargedForWhatTheyWriteAndKeepNothing) {
  BufferShelf shelf;
  MemoryBudget budget(1 << 20);
  OutgoingFrames frames(shelf, budget);
  for (int i = 0; i < 16; ++i) {
    kafka::FrameWriter& writer = frames.NewWriter();
    writer.Copy(std::string(30'000, 'x'));
    frames.AddWritten(writer);
    EXPECT_GE(budget.used(), frames.size());
  }
  EXPECT_EQ(shelf.spareWriters(), 0u);
  frames.Clear();
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_EQ(shelf.spareWriters(), 16u) << "they are the worker's, not the connection's";
  for (int i = 0; i < 200; ++i) frames.NewWriter();
  frames.Clear();
  EXPECT_LE(shelf.spareWriters(), 64u);
}

TEST(OutgoingFramesTest, ForgetWhatWasSentButKeepAWriterThatIsStillFilled) {
  BufferShelf shelf;
  MemoryBudget budget(1000);
  OutgoingFrames frames(shelf, budget);
  frames.AddSlice(AsBytes("sent"));
  kafka::FrameWriter& writer = frames.NewWriter();
  writer.Copy("half");
  frames.ForgetSent(0);
  EXPECT_TRUE(frames.empty());
  writer.Copy(" and half");
  frames.AddWritten(writer);
  EXPECT_EQ(TextOf(frames), "half and half");
}

class MemoryBudgetTest : public io::LoopTest {
 protected:
  io::Task<void> Take(size_t bytes, int name) {
    auto room = budget_.Acquire(bytes);
    co_await std::move(room);
    got_.push_back(name);
  }
  io::Task<void> Turns() {
    for (int i = 0; i < 3; ++i) {
      auto turn = io::OneTurn(*loop_);
      co_await std::move(turn);
    }
  }

  io::Task<void> TakeOutput(size_t bytes, int name) {
    auto room = budget_.AcquireOutput(bytes);
    co_await std::move(room);
    got_.push_back(name);
  }

  MemoryBudget budget_{100};
  std::vector<int> got_;
};

io::Task<void> Then(io::Task<void> first, std::function<void()> work) {
  co_await std::move(first);
  work();
}

TEST_F(MemoryBudgetTest, LetsWaitWhoDoesNotFitFirstComeFirstServed) {
  std::function<void()> check = [this] {
    EXPECT_EQ(got_, (std::vector<int>{1, 2})) << "a small one overtook";
    budget_.Release(60);
  };
  RunToEnd(Take(60, 1), Take(15, 2), Take(50, 3), Take(10, 4), Then(Turns(), check));
  EXPECT_EQ(got_, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_EQ(budget_.used(), 75u);
}

TEST_F(MemoryBudgetTest, GivesNothingAtOnceWhenItDoesNotFitOrSomebodyWaits) {
  std::function<void()> check = [this] {
    EXPECT_FALSE(budget_.TryAcquire(10)) << "overtook one who waits";
    budget_.Release(60);
  };
  RunToEnd(Take(60, 1), Take(60, 2), Then(Turns(), check));
  EXPECT_FALSE(budget_.TryAcquire(16));
  EXPECT_TRUE(budget_.TryAcquire(15));
  EXPECT_EQ(budget_.used(), 75u);
}

TEST_F(MemoryBudgetTest, GivesAFrameLargerThanAllOfItTheWholeAlone) {
  std::function<void()> release = [this] {
    EXPECT_EQ(got_, (std::vector<int>{1}));
    budget_.Release(10);
  };
  RunToEnd(Take(10, 1), Take(1000, 2), Then(Turns(), release));
  EXPECT_EQ(got_, (std::vector<int>{1, 2}));
  EXPECT_EQ(budget_.used(), 1000u);
  budget_.Release(1000);
  EXPECT_EQ(budget_.used(), 0u);
}

// Frames that wait for the room of their own output must not have taken all of it.
TEST_F(MemoryBudgetTest, KeepsRoomForOutputFromFrames) {
  std::function<void()> check = [this] {
    EXPECT_EQ(got_, (std::vector<int>{1, 2})) << "a frame got the last of it, or its output none";
    budget_.ReleaseOutput(25);
    budget_.Release(75);
  };
  RunToEnd(Take(75, 1), Take(1, 3), TakeOutput(25, 2), TakeOutput(5, 4), Then(Turns(), check));
  EXPECT_EQ(got_, (std::vector<int>{1, 2, 4, 3})) << "output comes first, as it lets frames go";
  EXPECT_EQ(budget_.used(), 6u);
}

TEST_F(MemoryBudgetTest, LetsTheOnlyOutputGrowWhateverItTakes) {
  EXPECT_TRUE(budget_.TryAcquire(75));
  EXPECT_TRUE(budget_.TryGrowOutput(0, 500));
  EXPECT_TRUE(budget_.TryGrowOutput(500, 500));
  EXPECT_FALSE(budget_.TryGrowOutput(0, 1)) << "of another";
  budget_.ReleaseOutput(1000);
  EXPECT_TRUE(budget_.TryGrowOutput(0, 10));
  EXPECT_FALSE(budget_.TryGrowOutput(0, 20));
  EXPECT_TRUE(budget_.TryGrowOutput(0, 15));
}

// An eighth is for what connections have the agent remember, and a workload gets four fifths of that.
class KeptMemoryTest : public testing::Test {
 protected:
  static constexpr auto kForgotten = MemoryBudget::Kept::kUntilForgotten;
  static constexpr auto kAnswered = MemoryBudget::Kept::kUntilAnswered;

  size_t TakeAll(const std::string& workload) {
    size_t taken = 0;
    while (budget_.TryKeep(workload, 10, kForgotten)) taken += 10;
    return taken;
  }

  MemoryBudget budget_{80'000};
};

TEST_F(KeptMemoryTest, OneWorkloadLeavesRoomForOthers) {
  EXPECT_FALSE(budget_.TryKeep("a", 9000, kForgotten)) << "all at once";
  const size_t first = TakeAll("a");
  EXPECT_EQ(first, 8000u);
  const size_t second = TakeAll("b");
  EXPECT_GT(second, 1000u);
  EXPECT_GT(TakeAll("c"), 100u);
  budget_.ReleaseKept("a", first, kForgotten);
  EXPECT_GT(TakeAll("b"), 4000u);
  EXPECT_LE(budget_.used(), 10'000u);
}

TEST_F(KeptMemoryTest, AWorkloadAlwaysHasRoomForOneThingThatEndsWithItsAnswer) {
  const size_t taken = TakeAll("a");
  EXPECT_TRUE(budget_.TryKeep("a", 50'000, kAnswered));
  EXPECT_FALSE(budget_.TryKeep("a", 10, kAnswered)) << "a second one";
  EXPECT_FALSE(budget_.TryKeep("b", 10, kForgotten)) << "there is nothing left now";
  EXPECT_TRUE(budget_.TryKeep("b", 10, kAnswered));
  budget_.ReleaseKept("a", 50'000, kAnswered);
  EXPECT_TRUE(budget_.TryKeep("a", 10, kAnswered));
  budget_.ReleaseKept("a", 10, kAnswered);
  budget_.ReleaseKept("b", 10, kAnswered);
  budget_.ReleaseKept("a", taken, kForgotten);
  EXPECT_EQ(budget_.used(), 0u);
}

}  // namespace
}  // namespace kveil::proxy
