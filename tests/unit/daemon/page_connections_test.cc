// However many look at the page, the workers hear of it once a second.
#include "daemon/page_connections.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace kveil::daemon {
namespace {

class PageConnectionsTest : public ::testing::Test {
 protected:
  // Asks of what this answers, which waits until it may.
  std::string Ask() {
    ++asked_;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return mayAnswer_; });
    return "{}";
  }
  void LetAnswer() {
    const std::lock_guard lock(mutex_);
    mayAnswer_ = true;
    changed_.notify_all();
  }
  PageConnections::Reply Count() {
    return [this](std::string_view json) {
      const std::lock_guard lock(mutex_);
      ++(json.empty() ? refused_ : answered_);
      changed_.notify_all();
    };
  }
  bool AwaitAnswers(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return answered_ == count; });
  }

  // The threads that have given the answers before may not have ended yet.
  bool AwaitAnswerThatIsNotRefused(PageConnections& connections, int count) {
    for (int tries = 0; tries < 1000; ++tries) {
      std::unique_lock lock(mutex_);
      const int before = refused_;
      lock.unlock();
      connections.Answer(Count());
      lock.lock();
      changed_.wait_for(lock, std::chrono::seconds(60), [&] { return answered_ == count || refused_ > before; });
      if (answered_ == count) return true;
      lock.unlock();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  std::atomic<int> asked_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool mayAnswer_ = false;
  int answered_ = 0, refused_ = 0;
};

TEST_F(PageConnectionsTest, AllThatWaitGetOneAnswer) {
  PageConnections connections([this] { return Ask(); });
  for (size_t i = 0; i < PageConnections::kMostWaiting; ++i) connections.Answer(Count());
  EXPECT_EQ(refused_, 0);
  for (int i = 0; i < 3; ++i) connections.Answer(Count());
  EXPECT_EQ(refused_, 3) << "there is a bound";
  LetAnswer();
  EXPECT_TRUE(AwaitAnswers(static_cast<int>(PageConnections::kMostWaiting)));
  EXPECT_EQ(asked_, 1);
}

TEST_F(PageConnectionsTest, AnswerIsGivenAgainForASecond) {
  PageConnections connections([this] { return Ask(); });
  mayAnswer_ = true;
  const auto begun = PageConnections::Clock::now();
  connections.Answer(Count());
  ASSERT_TRUE(AwaitAnswers(1));
  for (int count = 2; PageConnections::Clock::now() - begun < PageConnections::kAge / 4; ++count) {
    connections.Answer(Count());
    ASSERT_TRUE(AwaitAnswers(count));
  }
  EXPECT_EQ(asked_, 1);
}

TEST_F(PageConnectionsTest, AnswerThatIsOldIsNotGivenAgain) {
  PageConnections connections([this] { return Ask(); }, std::chrono::milliseconds(0));
  mayAnswer_ = true;
  for (int count = 1; count <= 3; ++count) {
    ASSERT_TRUE(AwaitAnswerThatIsNotRefused(connections, count));
    EXPECT_EQ(asked_, count);
  }
}

// Everybody on the node may read it: no principal, no user, no address of a client.
TEST(PageTextTest, HasWhatThePageShowsAndNothingElse) {
  admin::ConnectionsCommand::Connection one;
  one.id = 1;
  one.uid = 2;
  one.ageMilliseconds = 3;
  one.workload = "unit=a.service";
  one.share = one.client = one.clientTls = "secret";
  one.principal = one.certificate = "secret";
  one.cluster = "main";
  one.broker = "192.0.2.1:9092";
  one.clientId = "app\xff";
  one.requestBytes = 4;
  one.responseBytes = 5;
  one.sealed = 6;
  one.opened = 7;
  one.denied = 8;
  one.refused = 9;
  EXPECT_EQ(PageTextOf({.connections = {one}, .total = 10, .fitting = 11, .silentWorkers = 12}),
            R"({"connections":[{"broker":"192.0.2.1:9092","clientId":"app\ufffd","cluster":"main","denied":8,)"
            R"("opened":7,"refused":9,"requestBytes":4,"responseBytes":5,"sealed":6,"workload":"unit=a.service"}],)"
            R"("total":10})");
  EXPECT_EQ(PageTextOf({}), R"({"connections":[],"total":0})");
}

TEST_F(PageConnectionsTest, EndWaitsForWhatIsAsked) {
  {
    PageConnections connections([this] { return Ask(); });
    connections.Answer(Count());
    LetAnswer();
  }
  EXPECT_EQ(answered_, 1);
}

}  // namespace
}  // namespace kveil::daemon
