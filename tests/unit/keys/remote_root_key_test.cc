// What stands around every provider that is a network away.
#include "keys/root/remote_root_key.h"

#include <gmock/gmock.h>

#include <thread>

#include "key_fixture.h"
#include "keys/root/open_root_key.h"
#include "slow_root_key.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

class RemoteRootKeyTest : public KeyTest {
 protected:
  using Clock = std::chrono::steady_clock;

  static RootKey::Deadline In(milliseconds time) { return Clock::now() + time; }

  std::unique_ptr<RemoteRootKey> Make(RemoteRootKey::Options options = {}) {
    auto inner = OpenRootKey({.file = keyFile()}, true, In(seconds(10)));
    EXPECT_TRUE(inner.ok()) << inner.status();
    options.provider = "slow";
    state_ = std::make_shared<ProviderState>();
    return std::make_unique<RemoteRootKey>(std::make_unique<SlowRootKey>(*std::move(inner), state_), options);
  }
  static RootKey::DataKey Generate(RootKey& root) {
    auto made = root.GenerateDataKey(AsBytes("epoch 1"), In(seconds(10)));
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : RootKey::DataKey();
  }
  static absl::Status Unwrap(RootKey& root, const RootKey::DataKey& made, milliseconds patience) {
    const RootKey::WrappedKey keys[] = {{made.wrapped, AsBytes("epoch 1")}};
    return root.Unwrap(keys, In(patience)).at(0).status();
  }
  static milliseconds Since(Clock::time_point begun) {
    return std::chrono::duration_cast<milliseconds>(Clock::now() - begun);
  }

  std::shared_ptr<ProviderState> state_;
};

TEST_F(RemoteRootKeyTest, ACallerWaitsForItsDeadlineAtMostWhateverTheProviderDoes) {
  auto root = Make();
  const RootKey::DataKey made = Generate(*root);
  state_->Delay(seconds(3600), /*keeps=*/false);
  const auto begun = Clock::now();
  EXPECT_EQ(Unwrap(*root, made, milliseconds(200)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(root->GenerateDataKey(AsBytes("epoch 1"), In(milliseconds(200))).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_LT(Since(begun), seconds(2));
}

TEST_F(RemoteRootKeyTest, TriesAgainWhatPassesByItselfAndNothingElse) {
  auto root = Make({.firstPause = milliseconds(20)});
  const RootKey::DataKey made = Generate(*root);
  state_->Set(absl::UnavailableError("overloaded"));
  std::thread repair([this] {
    while (state_->unwraps < 2) usleep(1'000);
    state_->Set(absl::OkStatus());
  });
  EXPECT_TRUE(Unwrap(*root, made, seconds(5)).ok());
  repair.join();
  EXPECT_GE(state_->unwraps, 3);
  for (const absl::Status& status : {absl::PermissionDeniedError("no"), absl::FailedPreconditionError("deleted")}) {
    state_->Set(status);
    const int before = state_->unwraps;
    EXPECT_EQ(Unwrap(*root, made, seconds(5)).code(), status.code());
    EXPECT_EQ(state_->unwraps, before + 1);
  }
}

TEST_F(RemoteRootKeyTest, TriesAgainOnlyWhileThereIsTime) {
  auto root = Make({.breaker = {.failures = 1'000'000}});
  const RootKey::DataKey made = Generate(*root);
  state_->Set(absl::UnavailableError("overloaded"));
  const auto begun = Clock::now();
  const absl::Status status = Unwrap(*root, made, milliseconds(400));
  EXPECT_THAT(std::string(status.message()), HasSubstr("overloaded"));
  EXPECT_LE(Since(begun), seconds(1));
}

TEST_F(RemoteRootKeyTest, EqualUnwrapsAtTheSameTimeAreOne) {
  auto root = Make();
  const RootKey::DataKey made = Generate(*root);
  const RootKey::DataKey other = Generate(*root);
  state_->Delay(milliseconds(300));
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  for (int i = 0; i < 20; ++i) {
    callers.emplace_back([&, i] { good += Unwrap(*root, i == 0 ? other : made, seconds(5)).ok(); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(good, 20);
  EXPECT_EQ(state_->unwraps, 2);
  EXPECT_TRUE(Unwrap(*root, made, seconds(5)).ok());
  EXPECT_EQ(state_->unwraps, 3) << "an answer was kept";
}

TEST_F(RemoteRootKeyTest, AsksOnAFewThreadsAndTurnsAwayWhatWouldWaitForLong) {
  auto root = Make({.threads = 2, .mostWaiting = 4});
  state_->Delay(milliseconds(200));
  std::vector<std::thread> callers;
  std::atomic<int> good{0};
  for (int i = 0; i < 20; ++i) {
    callers.emplace_back([&] { good += root->GenerateDataKey(AsBytes("epoch 1"), In(seconds(5))).ok(); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(state_->most, 2);
  EXPECT_GE(good, 4);
  EXPECT_LT(good, 20);
}

TEST_F(RemoteRootKeyTest, AfterFailuresInARowCallsFailAtOnceUntilOneIsAnswered) {
  auto root = Make({.firstPause = milliseconds(1),
                    .breaker = {.failures = 3, .pause = milliseconds(300), .longestPause = milliseconds(300)}});
  const RootKey::DataKey made = Generate(*root);
  state_->Set(absl::UnavailableError("overloaded"));
  EXPECT_EQ(Unwrap(*root, made, seconds(5)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(state_->unwraps, 3);
  const auto begun = Clock::now();
  const absl::Status refused = Unwrap(*root, made, seconds(5));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("overloaded")) << "it says why";
  EXPECT_LT(Since(begun), milliseconds(140)) << "the shortest pause is half of the longest";
  EXPECT_EQ(state_->unwraps, 3);
  state_->Set(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return Unwrap(*root, made, seconds(5)).ok(); }));
  EXPECT_EQ(state_->unwraps, 4) << "one was let through";
  EXPECT_TRUE(Unwrap(*root, made, seconds(5)).ok());
}

TEST_F(RemoteRootKeyTest, CheckNeverWaits) {
  auto root = Make({.attemptLimit = milliseconds(500), .checkInterval = milliseconds(1)});
  state_->Delay(seconds(3600), /*keeps=*/false);
  for (int i = 0; i < 20; ++i) {
    usleep(5'000);
    const auto begun = Clock::now();
    EXPECT_TRUE(root->Check(In(seconds(5))).ok()) << "an outage that has just begun does not count";
    EXPECT_LT(Since(begun), milliseconds(100));
  }
  EXPECT_EQ(state_->checks, 1) << "one at a time";
  EXPECT_TRUE(Eventually([&] { return !root->Warning().ok(); }));
  EXPECT_THAT(std::string(root->Warning().message()), AllOf(HasSubstr("slow KMS"), HasSubstr("does not answer")));
}

TEST_F(RemoteRootKeyTest, CheckTellsAnOutageFromARefusalAndRecoversFromBoth) {
  auto root = Make({.checkInterval = milliseconds(10), .outageLimit = milliseconds(500)});
  const auto check = [&] { return root->Check(In(seconds(1))).code(); };
  EXPECT_EQ(check(), absl::StatusCode::kOk);
  state_->Set(absl::UnavailableError("connection refused"));
  EXPECT_TRUE(Eventually([&] { return check() == absl::StatusCode::kOk && !root->Warning().ok(); }));
  EXPECT_THAT(std::string(root->Warning().message()), HasSubstr("connection refused"));
  EXPECT_TRUE(Eventually([&] { return check() == absl::StatusCode::kUnavailable; })) << "an outage that lasts counts";
  state_->Set(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return check() == absl::StatusCode::kOk && root->Warning().ok(); }));
  state_->Set(absl::FailedPreconditionError("deleted"));
  EXPECT_TRUE(Eventually([&] { return check() == absl::StatusCode::kFailedPrecondition; })) << "that counts at once";
  state_->Set(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return check() == absl::StatusCode::kOk; }));
}

TEST_F(RemoteRootKeyTest, WhatUnwrapIsRefusedCheckKnows) {
  auto root = Make({.checkInterval = seconds(3600)});
  const RootKey::DataKey made = Generate(*root);
  EXPECT_TRUE(Unwrap(*root, made, seconds(5)).ok());
  state_->Set(absl::PermissionDeniedError("no"));
  EXPECT_FALSE(Unwrap(*root, made, seconds(5)).ok());
  EXPECT_EQ(root->Check(In(seconds(1))).code(), absl::StatusCode::kPermissionDenied);
  state_->Set(absl::OkStatus());
  EXPECT_TRUE(Unwrap(*root, made, seconds(5)).ok());
  EXPECT_TRUE(root->Check(In(seconds(1))).ok());
}

TEST_F(RemoteRootKeyTest, AnOutageOfUnwrapCountsAlsoWhileCheckIsAnswered) {
  auto root = Make({.checkInterval = milliseconds(10), .outageLimit = milliseconds(300)});
  const RootKey::DataKey made = Generate(*root);
  state_->SetUnwrap(absl::UnavailableError("the HSM is out"));
  EXPECT_FALSE(Unwrap(*root, made, milliseconds(100)).ok());
  const auto check = [&] { return root->Check(In(seconds(1))).code(); };
  EXPECT_TRUE(Eventually([&] { return check() == absl::StatusCode::kUnavailable; }));
  EXPECT_THAT(std::string(root->Warning().message()), HasSubstr("the HSM is out"));
  state_->SetUnwrap(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return Unwrap(*root, made, seconds(1)).ok(); }));
  EXPECT_EQ(check(), absl::StatusCode::kOk);
}

TEST_F(RemoteRootKeyTest, CountsCallsErrorsAndTime) {
  auto root = Make({.breaker = {.failures = 1}});
  const RootKey::DataKey made = Generate(*root);
  state_->Delay(milliseconds(20));
  EXPECT_TRUE(Unwrap(*root, made, seconds(5)).ok());
  RootKey::DataKey damaged{made.key.Copy(), made.wrapped};
  damaged.wrapped[0] ^= 1;
  EXPECT_EQ(Unwrap(*root, damaged, seconds(5)).code(), absl::StatusCode::kDataLoss);
  state_->Set(absl::UnavailableError("overloaded"));
  EXPECT_FALSE(Unwrap(*root, made, seconds(5)).ok());
  const RootKey::Stats stats = root->stats();
  EXPECT_EQ(stats.provider, "slow");
  EXPECT_EQ(stats.calls[static_cast<size_t>(RootKey::Operation::kGenerateDataKey)].calls, 1u);
  const RootKey::Calls& unwraps = stats.calls[static_cast<size_t>(RootKey::Operation::kUnwrap)];
  EXPECT_EQ(unwraps.calls, 3u);
  EXPECT_EQ(unwraps.errors, 1u) << "a damaged key is no error of the provider";
  EXPECT_GE(unwraps.time, milliseconds(40));
}

TEST_F(RemoteRootKeyTest, StopEndsWhatIsUnderWay) {
  auto root = Make();
  const RootKey::DataKey made = Generate(*root);
  state_->Delay(seconds(3600));
  const auto begun = Clock::now();
  std::thread caller([&] { EXPECT_EQ(Unwrap(*root, made, seconds(60)).code(), absl::StatusCode::kUnavailable); });
  while (state_->unwraps == 0) usleep(1'000);
  root->Stop();
  caller.join();
  root.reset();
  EXPECT_LT(Since(begun), seconds(10));
}

}  // namespace
}  // namespace kveil::keys
