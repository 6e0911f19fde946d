// The receive buffers: bounded, first come first served, and their memory goes back when nobody needs it.
#include "io/buffer_pool.h"

#include <sys/mman.h>

#include <string>
#include <vector>

#include "harness.h"

namespace kveil::io {
namespace {

constexpr size_t kSize = 1 << 20;

PooledBuffer Take(BufferPool& pool) {
  BufferPool::Awaiter awaiter = pool.Acquire();
  EXPECT_TRUE(awaiter.await_ready());
  return awaiter.await_resume();
}

// Pages in memory, of `size` bytes from `data` on.
size_t ResidentPages(const uint8_t* data, size_t size) {
  std::vector<unsigned char> pages((size + 4095) / 4096);
  EXPECT_EQ(::mincore(const_cast<uint8_t*>(data), size, pages.data()), 0);
  size_t resident = 0;
  for (const unsigned char page : pages) resident += page & 1;
  return resident;
}

TEST(BufferPoolTest, GivesTheBufferThatWasUsedLast) {
  BufferPool pool(kSize, 4);
  ASSERT_TRUE(pool.valid());
  PooledBuffer first = Take(pool);
  const uint8_t* const last = [&] {
    const PooledBuffer second = Take(pool);
    EXPECT_EQ(pool.inUse(), 2u);
    return second.data();
  }();
  EXPECT_EQ(pool.inUse(), 1u);
  const PooledBuffer again = Take(pool);
  EXPECT_EQ(again.data(), last);
  EXPECT_NE(again.data(), first.data());
}

TEST(BufferPoolTest, ABufferMayBeReadALittleBeyondItsEndWithoutMeetingAnother) {
  BufferPool pool(kSize, 3);
  std::vector<PooledBuffer> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(Take(pool));
    ASSERT_EQ(held.back().size(), kSize);
    std::fill_n(held.back().data(), kSize, uint8_t{1});
  }
  unsigned sum = 0;
  for (const PooledBuffer& buffer : held) {
    for (size_t i = 0; i < BufferPool::kTailPadding; ++i) sum += buffer.data()[kSize + i];
  }
  EXPECT_EQ(sum, 0u);
}

TEST(BufferPoolTest, MovingABufferGivesTheOldOneBack) {
  BufferPool pool(kSize, 2);
  PooledBuffer first = Take(pool);
  first = Take(pool);
  EXPECT_EQ(pool.inUse(), 1u);
  first = PooledBuffer();
  EXPECT_EQ(first.size(), 0u);
  EXPECT_EQ(pool.inUse(), 0u);
}

TEST(BufferPoolTest, TakesNoMemoryBeforeItIsUsed) {
  BufferPool pool(kSize, 8);
  PooledBuffer buffer = Take(pool);
  EXPECT_EQ(ResidentPages(buffer.data(), kSize), 0u);
  buffer.data()[0] = 1;
  EXPECT_EQ(ResidentPages(buffer.data(), kSize), 1u);
}

TEST(BufferPoolTest, ReturnsTheMemoryOfBuffersThatNobodyNeededForAPeriod) {
  BufferPool pool(kSize, 16);
  std::vector<PooledBuffer> held;
  std::vector<const uint8_t*> addresses;
  for (int i = 0; i < 10; ++i) {
    held.push_back(Take(pool));
    addresses.push_back(held.back().data());
    std::fill_n(held.back().data(), kSize, uint8_t{1});
  }
  held.clear();
  { const PooledBuffer another = Take(pool); }  // the fewest idle ones count, not those at the end of the period
  const auto resident = [&] {
    size_t pages = 0;
    for (const uint8_t* address : addresses) pages += ResidentPages(address, kSize);
    return pages;
  };
  EXPECT_TRUE(pool.HasColdMemory());
  pool.ReleaseColdMemory();  // all ten were in use in the period that ends here
  EXPECT_EQ(resident(), 10 * kSize / 4096);
  pool.ReleaseColdMemory();
  EXPECT_EQ(resident(), 4 * kSize / 4096) << "all but the few that are kept warm";
  EXPECT_FALSE(pool.HasColdMemory());
  // And they are as good as new.
  PooledBuffer again = Take(pool);
  again.data()[0] = 2;
  EXPECT_EQ(again.data()[0], 2);
}

TEST(BufferPoolTest, SaysWhenThereIsNoAddressSpace) {
  EXPECT_FALSE(BufferPool(size_t{1} << 44, 1 << 10).valid());
  Loop::Options options;
  options.receiveBufferSize = size_t{1} << 44;
  options.receiveBufferCount = 1 << 10;
  EXPECT_TRUE(absl::IsResourceExhausted(Loop::Create(options).status()));
}

using PoolWaitTest = LoopTest;

Task<void> HoldBuffer(Loop& loop, std::string* notes, char note) {
  const PooledBuffer buffer = co_await loop.receiveBuffers().Acquire();
  EXPECT_NE(buffer.data(), nullptr);
  EXPECT_LE(loop.receiveBuffers().inUse(), 4u);
  notes->push_back(note);
  co_await loop.Sleep(std::chrono::milliseconds(2));
}

TEST_F(PoolWaitTest, WhoFindsItEmptyWaitsFirstComeFirstServed) {
  std::string notes;
  for (char note = 'a'; note <= 'z'; ++note) loop_->Spawn(HoldBuffer(*loop_, &notes, note));
  RunToEnd();
  EXPECT_EQ(notes, "abcdefghijklmnopqrstuvwxyz");
  EXPECT_EQ(loop_->receiveBuffers().inUse(), 0u);
  EXPECT_EQ(loop_->receiveBuffers().waiting(), 0u);
}

Task<void> FillAndWatch(Loop& loop, size_t* residentAfter) {
  std::vector<const uint8_t*> addresses;
  {
    std::vector<PooledBuffer> held;
    for (int i = 0; i < 8; ++i) {
      held.push_back(co_await loop.receiveBuffers().Acquire());
      addresses.push_back(held.back().data());
      std::fill_n(held.back().data(), kSize, uint8_t{1});
    }
  }
  for (int i = 0; i < 100; ++i) {
    co_await loop.Sleep(std::chrono::milliseconds(50));
    *residentAfter = 0;
    for (const uint8_t* address : addresses) *residentAfter += ResidentPages(address, kSize);
    if (*residentAfter == 4 * kSize / 4096) break;
  }
}

TEST(LoopMemoryTest, TheLoopReturnsColdMemoryByItself) {
  Loop::Options options;
  options.receiveBufferCount = 8;
  auto loop = Loop::Create(options);
  ASSERT_TRUE(loop.ok()) << loop.status();
  size_t resident = 0;
  (*loop)->Spawn(FillAndWatch(**loop, &resident));
  (*loop)->Stop();
  (*loop)->Run();
  EXPECT_EQ(resident, 4 * kSize / 4096);
}

}  // namespace
}  // namespace kveil::io
