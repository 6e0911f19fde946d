// Bounds, turns and deadlines of looking names up. What the host is asked stands for all that blocks.
#include "names/name_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <set>

#include "base/text.h"

namespace kveil::names {
namespace {

using Answers = NameResolver::Answers;
using std::chrono::milliseconds;

// Lets nobody through until it is opened, and counts who waits.
class Gate {
 public:
  ~Gate() { Open(); }
  void Pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool WaitFor(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return waiting_ == count; });
  }
  int waiting() {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

class NameResolverTest : public testing::Test {
 protected:
  NameResolverTest() {
    options_.makeSocket = [](uint64_t, int, int, int) -> absl::StatusOr<UniqueFd> {
      return absl::UnavailableError("no socket");
    };
    options_.ownLookUp = [gate = gate_](const std::string& name) -> absl::StatusOr<Addresses> {
      if (name.starts_with("slow")) gate->Pass();
      if (name.starts_with("unknown")) return absl::NotFoundError("nobody knows it");
      return Addresses{*SocketAddress::Parse("10.0.0.1", 0)};
    };
  }
  static NameResolver::Place PlaceOf(std::string workload) {
    struct stat own;
    EXPECT_EQ(::stat("/proc/self/ns/net", &own), 0);
    NameResolver::Place place;
    place.netnsInode = own.st_ino;
    place.isOwn = true;
    place.processes = {0x3FFFFFFF, ::getpid()};
    place.workload = std::move(workload);
    return place;
  }
  std::future<Answers> LookUp(NameResolver& resolver, const std::string& workload, std::vector<std::string> names) {
    auto promise = std::make_shared<std::promise<Answers>>();
    std::future<Answers> future = promise->get_future();
    resolver.LookUp(PlaceOf(workload), std::move(names),
                    [promise](Answers answers) { promise->set_value(std::move(answers)); });
    return future;
  }
  static Answers Get(std::future<Answers>& future) {
    EXPECT_EQ(future.wait_for(std::chrono::seconds(10)), std::future_status::ready);
    return future.get();
  }

  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();  // threads may outlive the test
  NameResolver::Options options_;
};

TEST_F(NameResolverTest, AnswersEachNameByItself) {
  NameResolver resolver(options_);
  auto future = LookUp(resolver, "a", {"b1.kveil.invalid", "unknown.kveil.invalid", "localhost"});
  const Answers answers = Get(future);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_TRUE(answers[0].ok()) << answers[0].status();
  EXPECT_FALSE(answers[1].ok());
  EXPECT_TRUE(answers[2].ok()) << answers[2].status();
}

TEST_F(NameResolverTest, AsksTheHostForItsOwnWorkloadsOnly) {
  NameResolver resolver(options_);
  NameResolver::Place place = PlaceOf("a");
  place.isOwn = false;
  std::promise<Answers> promise;
  resolver.LookUp(std::move(place), {"b1.kveil.invalid"}, [&](Answers answers) { promise.set_value(answers); });
  auto future = promise.get_future();
  EXPECT_FALSE(Get(future).at(0).ok()) << "the workload would not find it there";
}

TEST_F(NameResolverTest, FailsWhereNoProcessIsLeft) {
  NameResolver resolver(options_);
  NameResolver::Place place = PlaceOf("a");
  place.processes = {0x3FFFFFFF};
  std::promise<Answers> promise;
  resolver.LookUp(std::move(place), {"b1"}, [&](Answers answers) { promise.set_value(answers); });
  auto future = promise.get_future();
  EXPECT_TRUE(absl::IsNotFound(Get(future).at(0).status()));
}

TEST_F(NameResolverTest, OneWorkloadTakesNoMoreThanItsThreads) {
  NameResolver resolver(options_);
  std::vector<std::future<Answers>> slow;
  for (int i = 0; i < 50; ++i) slow.push_back(LookUp(resolver, "greedy", {"slow.kveil.invalid"}));
  ASSERT_TRUE(gate_->WaitFor(2));
  auto other = LookUp(resolver, "modest", {"b1.kveil.invalid"});
  EXPECT_TRUE(Get(other).at(0).ok()) << "though fifty came before it";
  EXPECT_EQ(gate_->waiting(), 2);
  gate_->Open();
  for (auto& one : slow) EXPECT_TRUE(Get(one).at(0).ok());
}

TEST_F(NameResolverTest, StartsNoMoreThreadsThanItsBound) {
  options_.mostThreads = 4;
  NameResolver resolver(options_);
  std::vector<std::future<Answers>> slow;
  for (int i = 0; i < 300; ++i) slow.push_back(LookUp(resolver, StrCat("workload", i), {"slow.kveil.invalid"}));
  ASSERT_TRUE(gate_->WaitFor(4));
  EXPECT_EQ(resolver.threads(), 4u);
  gate_->Open();
  for (auto& one : slow) EXPECT_TRUE(Get(one).at(0).ok());
}

TEST_F(NameResolverTest, AnswersAtTheLimitWhateverBlocks) {
  options_.limit = milliseconds(100);
  NameResolver resolver(options_);
  auto slow = LookUp(resolver, "a", {"slow.kveil.invalid"});
  EXPECT_TRUE(absl::IsUnavailable(Get(slow).at(0).status()));
  auto behind = LookUp(resolver, "b", {"b1.kveil.invalid"});
  EXPECT_TRUE(Get(behind).at(0).ok());
}

TEST_F(NameResolverTest, TakesNoMoreThanMayWait) {
  options_.mostWaitingOfAWorkload = 3;
  NameResolver resolver(options_);
  EXPECT_TRUE(resolver.Health().ok());
  std::vector<std::future<Answers>> slow;
  for (int i = 0; i < 2; ++i) slow.push_back(LookUp(resolver, "greedy", {"slow.kveil.invalid"}));
  ASSERT_TRUE(gate_->WaitFor(2));
  for (int i = 0; i < 3; ++i) slow.push_back(LookUp(resolver, "greedy", {"slow.kveil.invalid"}));
  auto refused = LookUp(resolver, "greedy", {"slow.kveil.invalid"});
  EXPECT_TRUE(absl::IsResourceExhausted(Get(refused).at(0).status()));
  EXPECT_THAT(std::string(resolver.Health().message()), testing::HasSubstr("workload greedy"));
  auto other = LookUp(resolver, "modest", {"b1.kveil.invalid"});
  EXPECT_TRUE(Get(other).at(0).ok());
}

TEST_F(NameResolverTest, AnswersEverythingWhenItStops) {
  NameResolver resolver(options_);
  std::vector<std::future<Answers>> slow;
  for (int i = 0; i < 5; ++i) slow.push_back(LookUp(resolver, "a", {"slow.kveil.invalid"}));
  ASSERT_TRUE(gate_->WaitFor(2));
  resolver.Stop();
  for (auto& one : slow) EXPECT_TRUE(absl::IsCancelled(Get(one).at(0).status()));
  auto late = LookUp(resolver, "a", {"b1.kveil.invalid"});
  EXPECT_TRUE(absl::IsCancelled(Get(late).at(0).status()));
}

}  // namespace
}  // namespace kveil::names
