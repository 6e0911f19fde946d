// What the search for topics' entries may take of a worker, whatever names a client sends.
#include "guard/worker/search_pace.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "guard/apis/fetch_guard.h"
#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using kafka::FetchRequest;
using kafka::FetchResponse;
using std::chrono::microseconds;
using std::chrono::milliseconds;

TEST(SearchPaceTest, AWorkloadGetsATenthOfTheTime) {
  SearchPace pace;
  auto now = SearchPace::Clock::now();
  const auto begun = now;
  milliseconds searched{};
  while (now - begun < std::chrono::seconds(10)) {
    now += pace.WaitOf("a", now) + milliseconds(1);
    pace.Charge("a", milliseconds(1), now);
    searched += milliseconds(1);
  }
  EXPECT_GE(searched, milliseconds(990));
  EXPECT_LE(searched, milliseconds(1100));
  pace.Charge("a", milliseconds(3), now);
  EXPECT_GE(pace.WaitOf("a", now), milliseconds(27));
  EXPECT_EQ(pace.WaitOf("b", now).count(), 0) << "another workload";
}

TEST(SearchPaceTest, WhoSearchesLittleDoesNotWait) {
  SearchPace pace;
  const auto now = SearchPace::Clock::now();
  for (int i = 0; i < 1'000'000; ++i) pace.Charge("a", microseconds(1), now);
  EXPECT_EQ(pace.WaitOf("a", now).count(), 0) << "searches of few patterns";
  pace.Charge("a", milliseconds(2), now);
  EXPECT_EQ(pace.WaitOf("a", now).count(), 0);
  pace.Charge("a", milliseconds(1), now);
  EXPECT_EQ(pace.WaitOf("a", now), milliseconds(27));
  EXPECT_EQ(pace.WaitOf("a", now + milliseconds(27)).count(), 0);
}

class SearchWaitsTest : public ProduceGuardTest {
 protected:
  SearchWaitsTest() {
    UseTopics(R"({"pattern": ".*a[ab]{240}x", "read": []}, {"pattern": "(.*-)?[ab-]{1,249}\\.prod", "read": []})");
    std::mt19937 random(1);
    for (int i = 0; i < 100; ++i) {
      std::string& name = names_.emplace_back();
      while (name.size() < 249) name.push_back(random() % 2 == 0 ? 'a' : 'b');
    }
  }
  FetchRequest Asking() const {
    FetchRequest request;
    for (const std::string& name : names_) request.topics.emplace_back().topic = name;
    return request;
  }
  bool HasWaited() const { return !shared_->SearchesHealth().ok(); }

  std::vector<std::string> names_;
};

TEST_F(SearchWaitsTest, OfProduce) {
  std::vector<ProduceRequest::Topic> topics;
  for (const std::string& name : names_) topics.push_back(Topic(name, {{0, good_}}));
  EXPECT_TRUE(Produce(std::move(topics)).forwarded());
  EXPECT_TRUE(HasWaited());
}

TEST_F(SearchWaitsTest, OfFetch) {
  FetchGuard guard(Context());
  Request(guard, kFetchVersion, Asking());
  EXPECT_TRUE(HasWaited());
}

TEST_F(SearchWaitsTest, OfWhatABrokerAnswers) {
  FetchGuard guard(Context());
  FetchRequest request;
  request.sessionEpoch = FetchRequest::kNewSession;
  request.topics.emplace_back().topic = "free";
  const RequestResult asked = Request(guard, kFetchVersion, request);
  ASSERT_FALSE(HasWaited());
  FetchResponse response;
  for (const std::string& name : names_) response.responses.emplace_back().topic = name;
  Response(guard, kFetchVersion, response, asked.verdict.state.get());
  EXPECT_TRUE(HasWaited());
}

// Clients name the same topics again and again.
TEST_F(SearchWaitsTest, NotOfNamesThatAreKnown) {
  for (const std::string& name : names_) policies_->Current()->Find(name);
  FetchGuard guard(Context());
  Request(guard, kFetchVersion, Asking());
  EXPECT_FALSE(HasWaited());
}

}  // namespace
}  // namespace kveil::guard
