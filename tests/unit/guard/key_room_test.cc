// Who gets room in a worker's key cache, and when.
#include "guard/worker/key_room.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/event.h"

namespace kveil::guard {
namespace {

constexpr size_t kFull = keys::kKeyCacheCapacity;
constexpr size_t kAll = 3 * kFull;

class KeyRoomTest : public testing::Test {
 protected:
  struct Batch {
    Batch(char name, std::string share, size_t keys, std::chrono::milliseconds patience = std::chrono::minutes(10))
        : name(name), share(std::move(share)), keys(keys), patience(patience) {}
    const char name;
    const std::string share;
    const size_t keys;
    const std::chrono::milliseconds patience;
    io::Event leave;
  };

  KeyRoomTest() {
    ::alarm(120);  // a hang is a failure, not a wait
    auto loop = io::Loop::Create({});
    if (!loop.ok()) ADD_FAILURE() << loop.status();
    loop_ = *std::move(loop);
  }
  ~KeyRoomTest() override { ::alarm(0); }

  // Notes its name when it enters, or '-' when it gives up, and leaves when it is told to.
  io::Task<void> Visit(Batch& batch) {
    const auto deadline = std::chrono::steady_clock::now() + batch.patience;
    auto entering = room_.Enter(*loop_, batch.share, batch.keys, deadline);
    const bool inside = co_await std::move(entering);
    notes_ += inside ? batch.name : '-';
    if (!inside) co_return;
    co_await batch.leave.Wait();
    room_.Leave(batch.share, batch.keys);
  }
  // All come in this order; then each of `leaving` leaves, in turn.
  template <typename... Batches>
  void Run(std::vector<Batch*> leaving, Batches&... coming) {
    (loop_->Spawn(Visit(coming)), ...);
    loop_->Spawn(LetLeave(std::move(leaving)));
    loop_->Stop();
    loop_->Run();
  }
  io::Task<void> LetLeave(std::vector<Batch*> leaving) {
    for (Batch* batch : leaving) {
      co_await io::Loop::YieldAwaiter(*loop_);
      notes_ += ' ';
      batch->leave.Set();
    }
  }

  // Then another one comes.
  io::Task<void> LeaveLater(Batch& batch, Batch& other) {
    co_await loop_->Sleep(std::chrono::milliseconds(30));
    notes_ += ' ';
    batch.leave.Set();
    co_await io::Loop::YieldAwaiter(*loop_);
    loop_->Spawn(Visit(other));
  }

  KeyRoom room_;
  std::unique_ptr<io::Loop> loop_;
  std::string notes_;
};

TEST_F(KeyRoomTest, HoldsNoMoreKeysThanTheCacheKeepsInUse) {
  Batch a('a', "/a", kFull), b('b', "/b", kFull), c('c', "/c", kFull), d('d', "/d", 1);
  Run({&b, &a, &c, &d}, a, b, c, d);
  EXPECT_EQ(notes_, "abc d   ");
}

TEST_F(KeyRoomTest, HoldsOneBatchOfAWorkload) {
  Batch first('1', "/a", 1), second('2', "/a", 1), other('b', "/b", 1);
  Run({&other, &first, &second}, first, second, other);
  EXPECT_EQ(notes_, "1b  2 ");
}

TEST_F(KeyRoomTest, ABatchOfMoreKeysThanFitHasItAlone) {
  Batch a('a', "/a", 1), b('b', "/b", kAll + 1), c('c', "/c", 1);
  Run({&a, &b, &c}, a, b, c);
  EXPECT_EQ(notes_, "a b c ");
}

// Each goes in as soon as there is room, without a look in between.
TEST_F(KeyRoomTest, TheFirstWhoWaitsIsTheFirstWhoGetsIn) {
  Batch a('a', "/a", kAll), b('b', "/b", kAll), c('c', "/c", 1), d('d', "/d", 1), e('e', "/e", kAll);
  Run({&a, &b, &c, &d, &e}, a, b, c, d, e);
  EXPECT_EQ(notes_, "a b cd  e ");
}

TEST_F(KeyRoomTest, AWorkloadWithManyBatchesTakesTurnsWithOthers) {
  Batch first('1', "/a", kAll), second('2', "/a", kAll), third('3', "/a", kAll), other('b', "/b", kAll),
      another('c', "/c", kAll);
  Run({&first, &other, &another, &second, &third}, first, second, third, other, another);
  EXPECT_EQ(notes_, "1 b c 2 3 ");
}

TEST_F(KeyRoomTest, WhoGivesUpHoldsUpNobody) {
  Batch a('a', "/a", kFull), large('b', "/b", kAll, std::chrono::milliseconds(5)),
      behind('c', "/b", 1, std::chrono::milliseconds(1)), next('d', "/b", 1), small('e', "/e", 1), all('f', "/b", kAll);
  next.leave.Set();
  small.leave.Set();
  all.leave.Set();
  loop_->Spawn(LeaveLater(a, all));
  Run({}, a, large, behind, next, small);
  EXPECT_EQ(notes_, "a--ed f") << "beside a there was room for the small ones all the time";
}

}  // namespace
}  // namespace kveil::guard
