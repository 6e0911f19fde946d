// For how long credentials are used, and what becomes of callers while their source is out.
#include "keys/root/credential_cache.h"

#include <gmock/gmock.h>

#include <functional>
#include <optional>
#include <thread>

namespace kveil::keys {
namespace {

struct TestCredentials {
  int number = 0;
  std::optional<absl::Time> endsAt;
  friend bool operator==(const TestCredentials& a, const TestCredentials& b) { return a.number == b.number; }
};

class CredentialCacheTest : public testing::Test {
 protected:
  using Cache = CredentialCache<TestCredentials>;

  // The number of those that are in use at the end of the call.
  absl::StatusOr<int> Get() {
    const auto credentials = cache_.Get(deadline_);
    if (!credentials.ok()) return credentials.status();
    return (*credentials)->number;
  }
  // Until what was found is due to be renewed, or has ended.
  static void WaitForAge() { std::this_thread::sleep_for(3 * kAge); }

  static constexpr std::chrono::milliseconds kAge{2};
  const Cache::Deadline deadline_ = std::chrono::steady_clock::now() + std::chrono::hours(1);
  Cache::Deadline asked_;  // the deadline that the source had last
  std::optional<absl::Time> endsAt_;
  absl::Status outage_;
  int found_ = 0;
  Cache cache_{[this](Cache::Deadline deadline) -> absl::StatusOr<TestCredentials> {
                 asked_ = deadline;
                 if (!outage_.ok()) return outage_;
                 return TestCredentials{++found_, endsAt_};
               },
               kAge, kAge};
};

TEST_F(CredentialCacheTest, CredentialsThatHaveEndedAreNotUsedAlthoughThereAreNoOthers) {
  endsAt_ = absl::Now() - absl::Hours(1);  // by a clock that is wrong: good for kAge
  EXPECT_EQ(*Get(), 1);
  WaitForAge();
  outage_ = absl::UnavailableError("out");
  EXPECT_EQ(Get().status(), outage_);
  EXPECT_EQ(asked_, deadline_) << "there is nothing to save time for";
  outage_ = absl::OkStatus();
  EXPECT_EQ(*Get(), 2);
}

TEST_F(CredentialCacheTest, ARenewalThatIsEarlyLeavesHalfOfTheTime) {
  EXPECT_EQ(*Get(), 1);
  EXPECT_EQ(asked_, deadline_);
  WaitForAge();
  outage_ = absl::UnavailableError("out");
  EXPECT_EQ(*Get(), 1) << "they go on";
  EXPECT_LT(asked_, deadline_ - std::chrono::minutes(15));
}

}  // namespace
}  // namespace kveil::keys
