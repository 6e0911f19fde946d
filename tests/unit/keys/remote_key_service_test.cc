// The key service with a root key that is a network away: slow, silent, refusing, or not there when it starts.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include <thread>

#include "absl/strings/match.h"
#include "key_fixture.h"
#include "keys/root/remote_root_key.h"
#include "slow_root_key.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class RemoteKeyServiceTest : public KeyTest {
 protected:
  using Clock = std::chrono::steady_clock;

  // `calls` are the remote root key's own options.
  KeyServiceOptions RemoteOptions(RemoteRootKey::Options calls = {}) {
    KeyServiceOptions options = Options();
    options.root.file.clear();
    options.root.open = [this, calls](Clock::time_point deadline) -> absl::StatusOr<std::unique_ptr<RootKey>> {
      auto inner = OpenRootKey({.file = keyFile()}, true, deadline);
      EXPECT_TRUE(inner.ok()) << inner.status();
      auto root = std::make_unique<RemoteRootKey>(std::make_unique<SlowRootKey>(*std::move(inner), state_), calls);
      const absl::Status asked = root->Ask(deadline);
      if (!asked.ok()) return asked;
      return root;
    };
    return options;
  }
  void Execute(const std::string& statement) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(database, statement.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << statement;
    sqlite3_close(database);
  }
  // One that the agent has not seen, so that it has the root key asked.
  void AddEpoch() {
    Execute(
        "INSERT INTO epochs SELECT 2, wrappedKey, created, NULL FROM epochs; "
        "INSERT INTO turns (epoch, agent, seen, place) VALUES (2, x'', 0, x'')");
  }
  void RemoveEpoch() { Execute("DELETE FROM epochs WHERE epoch = 2; DELETE FROM turns"); }
  // The same registry as another file, as after it was restored.
  void ReplaceRegistry() {
    Execute("PRAGMA wal_checkpoint(TRUNCATE)");
    const std::string bytes = ReadFile(registryFile());
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((registryFile() + suffix).c_str());
    WriteFile(registryFile(), bytes);
    ASSERT_EQ(chmod(registryFile().c_str(), 0600), 0);
  }
  static Misses UserNumber(int number) {
    Misses misses;
    misses.scopes.emplace_back(User("user-" + std::to_string(number)));
    return misses;
  }
  // Erasures, new users and known keys, for a while; the longest that one of them took.
  milliseconds LongestOfTraffic(KeyService& service, seconds time) {
    milliseconds longest{0};
    const auto end = Clock::now() + time;
    for (; Clock::now() < end; ++users_) {
      service.TryUnwrap([](const absl::Status&) {});
      const auto begun = Clock::now();
      const FetchResult made = Ask(service, UserNumber(users_));
      EXPECT_TRUE(made.status.ok()) << made.status;
      Misses ids;
      ids.ids.push_back(made.scopes.at(0).key.id);
      EXPECT_EQ(Ask(service, std::move(ids)).ids.at(0).state, FetchResult::IdState::kReady);
      EXPECT_TRUE(service.Erase(std::nullopt, "user-" + std::to_string(users_)).ok());
      longest = std::max(longest, std::chrono::duration_cast<milliseconds>(Clock::now() - begun));
      usleep(2'000);
    }
    return longest;
  }

  std::shared_ptr<ProviderState> state_ = std::make_shared<ProviderState>();
  int users_ = 0;
};

TEST_F(RemoteKeyServiceTest, ASlowRootKeyHoldsUpNeitherErasuresNorFetches) {
  auto service = Open(RemoteOptions());
  ASSERT_NE(service, nullptr);
  state_->Delay(seconds(5));
  AddEpoch();
  ReplaceRegistry();
  EXPECT_LT(LongestOfTraffic(*service, seconds(2)), milliseconds(300));
  EXPECT_TRUE(service->health().ok()) << service->health();
}

TEST_F(RemoteKeyServiceTest, ARootKeyThatNeverAnswersHoldsUpNeitherErasuresNorFetches) {
  auto service = Open(RemoteOptions({.attemptLimit = milliseconds(200), .checkInterval = milliseconds(100)}));
  ASSERT_NE(service, nullptr);
  state_->Delay(seconds(3600), /*keeps=*/false);
  AddEpoch();
  ReplaceRegistry();
  EXPECT_LT(LongestOfTraffic(*service, seconds(2)), milliseconds(300));
  EXPECT_TRUE(Eventually([&] { return !service->health().ok(); }));
  EXPECT_THAT(std::string(service->health().message()), HasSubstr("slow KMS does not answer"));
  // Ready all the same: everything that is asked for is served.
  EXPECT_TRUE(TryUnwrap(*service).ok());
  const auto begun = Clock::now();
  service.reset();
  EXPECT_LT(Clock::now() - begun, seconds(5));
}

TEST_F(RemoteKeyServiceTest, WhatIsUnwrappedIsNotUnwrappedAgainForEachTrialOrReconnect) {
  auto service = Open(RemoteOptions());
  ASSERT_NE(service, nullptr);
  const int atStart = state_->unwraps;
  EXPECT_EQ(atStart, 2) << "the registry's secret, and its epochs";
  sleep(1);  // what could not be unwrapped would be asked for again now
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(TryUnwrap(*service).ok());
  ReplaceRegistry();
  EXPECT_TRUE(Ask(*service, UserNumber(1)).status.ok());
  EXPECT_EQ(state_->unwraps, atStart);
}

// A registry with an epoch that this agent has not seen: its rows wait, and are neither damaged nor unknown.
TEST_F(RemoteKeyServiceTest, RowsOfAnEpochThatIsNotUnwrappedYetWait) {
  auto service = Open(RemoteOptions());
  ASSERT_NE(service, nullptr);
  const crypto::KeyId id = Ask(*service, UserNumber(1)).scopes.at(0).key.id;
  state_->Set(absl::UnavailableError("overloaded"));
  AddEpoch();
  Execute("UPDATE scopeKeys SET epochAndState = 128 + 2");
  ReplaceRegistry();
  Misses ids;
  ids.ids.push_back(id);
  const FetchResult waits = Ask(*service, std::move(ids));
  EXPECT_TRUE(absl::IsUnavailable(waits.status)) << waits.status;
  EXPECT_THAT(std::string(waits.status.message()), HasSubstr("epoch 2"));
  EXPECT_TRUE(waits.ids.empty());
  EXPECT_TRUE(waits.damage.ok()) << waits.damage;
}

TEST_F(RemoteKeyServiceTest, ARefusalStopsNewKeysAtOnceAndReadinessWithThem) {
  auto service = Open(RemoteOptions({.checkInterval = milliseconds(100)}));
  ASSERT_NE(service, nullptr);
  const crypto::KeyId id = Ask(*service, UserNumber(1)).scopes.at(0).key.id;
  state_->Set(absl::FailedPreconditionError("the KMS has disabled the key"));
  EXPECT_TRUE(Eventually([&] { return absl::IsUnavailable(Ask(*service, UserNumber(2)).status); }));
  EXPECT_THAT(std::string(service->health().message()), HasSubstr("disabled"));
  EXPECT_FALSE(TryUnwrap(*service).ok());
  Misses ids;
  ids.ids.push_back(id);
  EXPECT_EQ(Ask(*service, std::move(ids)).ids.at(0).state, FetchResult::IdState::kReady);
  EXPECT_TRUE(service->Erase(std::nullopt, "user-1").ok());
  state_->Set(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return Ask(*service, UserNumber(2)).status.ok() && service->health().ok(); }));
  EXPECT_TRUE(Eventually([&] { return TryUnwrap(*service).ok(); }));
}

// As when the oldest version that may be unwrapped is raised and lowered again. Check is answered throughout.
TEST_F(RemoteKeyServiceTest, ARefusalOfUnwrapAloneIsOverWhenItIsPutRight) {
  auto service = Open(RemoteOptions());
  ASSERT_NE(service, nullptr);
  state_->SetUnwrap(absl::FailedPreconditionError("this version may not be unwrapped"));
  AddEpoch();
  EXPECT_TRUE(Eventually([&] {
    service->TryUnwrap([](const absl::Status&) {});
    return absl::IsUnavailable(Ask(*service, UserNumber(users_++)).status);
  }));
  RemoveEpoch();
  state_->SetUnwrap(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] {
    service->TryUnwrap([](const absl::Status&) {});
    return Ask(*service, UserNumber(users_++)).status.ok();
  }));
}

// As when somebody makes another key under the label of a token's. Check is answered throughout, by the new key.
TEST_F(RemoteKeyServiceTest, AnotherKeyInItsPlaceStopsNewKeysUntilItIsPutRight) {
  auto service = Open(RemoteOptions());
  ASSERT_NE(service, nullptr);
  const crypto::KeyId id = Ask(*service, UserNumber(0)).scopes.at(0).key.id;
  state_->SetUnwrap(absl::DataLossError("wrapped by another key"));
  AddEpoch();
  EXPECT_TRUE(Eventually([&] {
    service->TryUnwrap([](const absl::Status&) {});
    return absl::IsUnavailable(Ask(*service, UserNumber(++users_)).status);
  }));
  EXPECT_TRUE(Eventually([&] { return absl::StrContains(service->health().message(), "is another key now"); }));
  Misses ids;
  ids.ids.push_back(id);
  EXPECT_EQ(Ask(*service, std::move(ids)).ids.at(0).state, FetchResult::IdState::kReady);
  RemoveEpoch();
  state_->SetUnwrap(absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return Ask(*service, UserNumber(++users_)).status.ok() && service->health().ok(); }));
}

TEST_F(RemoteKeyServiceTest, AtTheStartItIsWaitedForAndThenGivenUp) {
  KeyServiceOptions options = RemoteOptions();
  options.rootKeyPatience = seconds(3);
  state_->Set(absl::UnavailableError("connection refused"));
  const auto begun = Clock::now();
  const absl::Status status = KeyService::Open(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("waited"));
  EXPECT_GE(Clock::now() - begun, seconds(1));
  std::thread repair([this] {
    usleep(500'000);
    state_->Set(absl::OkStatus());
  });
  options.rootKeyPatience = seconds(60);
  EXPECT_NE(Open(options), nullptr);
  repair.join();
}

TEST_F(RemoteKeyServiceTest, AtTheStartWaitingEndsWhenToldToAndARefusalIsNotWaitedFor) {
  KeyServiceOptions options = RemoteOptions();
  state_->Set(absl::UnavailableError("connection refused"));
  std::string reason;
  options.mayWait = [&reason](const absl::Status& why) {
    reason = std::string(why.message());
    return false;
  };
  EXPECT_EQ(KeyService::Open(options).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(reason, "connection refused");
  options.mayWait = [](const absl::Status&) { return true; };
  for (const absl::Status& refusal : {absl::PermissionDeniedError("no"), absl::FailedPreconditionError("deleted")}) {
    state_->Set(refusal);
    EXPECT_EQ(KeyService::Open(options).status().code(), refusal.code());
  }
}

}  // namespace
}  // namespace kveil::keys
