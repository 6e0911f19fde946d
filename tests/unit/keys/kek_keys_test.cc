// Topics whose keys are made under KEKs of several providers.
#include "keys/service/kek_keys.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "fake_vault.h"
#include "kek_fixture.h"

namespace kveil::keys {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(KekKeysTest, ATopicsKeyIsMadeUnderItsKekAndFoundByAnotherAgent) {
  auto service = Open(WithKeks());
  const ScopeKey made = KeyOf(*service, TopicUnder("orders", "a", "kafka-orders"));
  EXPECT_EQ(a_->generates, 1);
  EXPECT_EQ(b_->generates, 0);
  service.reset();
  service = Open(WithKeks());
  EXPECT_TRUE(KeyOf(*service, TopicUnder("orders", "a", "kafka-orders")).key.Equals(made.key));
  const FetchResult found = AskUntilThere(*service, ById(made.id));
  ASSERT_EQ(found.ids.size(), 1u);
  EXPECT_EQ(found.ids[0].state, FetchResult::IdState::kReady);
  EXPECT_TRUE(found.ids[0].key.key.Equals(made.key));
  EXPECT_EQ(a_->unwraps, 1);
}

TEST_F(KekKeysTest, ATopicThatMovesHasAnotherKeyAndTheOldOneStaysReadable) {
  auto service = Open(WithKeks());
  const ScopeKey none = KeyOf(*service, [] {
    Misses misses;
    misses.scopes.emplace_back(Scope::kTopic, "main", "orders");
    return misses;
  }());
  const ScopeKey before = KeyOf(*service, TopicUnder("orders", "a", "one"));
  const ScopeKey after = KeyOf(*service, TopicUnder("orders", "b", "one"));
  EXPECT_FALSE(before.key.Equals(after.key));
  EXPECT_FALSE(before.key.Equals(none.key));
  service.reset();
  service = Open(WithKeks());
  for (const ScopeKey* key : {&none, &before, &after}) {
    const FetchResult found = AskUntilThere(*service, ById(key->id));
    ASSERT_EQ(found.ids.size(), 1u);
    EXPECT_TRUE(found.ids[0].key.key.Equals(key->key));
  }
}

TEST_F(KekKeysTest, ManyTopicsOfOneKekCostOneCall) {
  auto service = Open(WithKeks());
  Misses topics, ids;
  for (int i = 0; i < 200; ++i) topics.scopes.push_back(TopicUnder(absl::StrCat("t", i), "a", "all").scopes[0]);
  const FetchResult made = AskUntilThere(*service, topics);
  for (const FetchResult::ByScope& scope : made.scopes) ids.ids.push_back(scope.key.id);
  EXPECT_EQ(a_->generates, 1);
  service.reset();
  service = Open(WithKeks());
  EXPECT_EQ(AskUntilThere(*service, ids).ids.size(), 200u);
  EXPECT_EQ(a_->unwraps, 1);
}

TEST_F(KekKeysTest, WhileAProviderIsOutTheOtherAndTopicsWithoutAKekGoOn) {
  a_->Set(absl::UnavailableError("no route to the KMS"));
  auto service = Open(WithKeks());
  AskUntilSaid(*service, TopicUnder("orders", "a", "k"), "a key of KEK a/k is out of reach: no route to the KMS");
  NoteSays(*service, "KEK a/k is out of reach: no route to the KMS; no record is sealed or opened under it");
  KeyOf(*service, TopicUnder("clicks", "b", "k"));
  Misses user;
  user.scopes.emplace_back(User("38"));
  EXPECT_TRUE(Ask(*service, std::move(user)).status.ok());
  EXPECT_TRUE(TryUnwrap(*service).ok()) << "the agent is ready for the other topics";
  const auto stats = service->kekStats();
  ASSERT_EQ(stats.size(), 2u);
  EXPECT_EQ(stats[0].provider, "a");
  EXPECT_EQ(stats[0].troubles[0], 1u);
  EXPECT_GE(stats[0].calls.errors, 1u);
  a_->Set(absl::OkStatus());
  KeyOf(*service, TopicUnder("orders", "a", "k"));
  EXPECT_TRUE(Eventually([&] { return service->kekNote().empty(); })) << service->kekNote();
}

TEST_F(KekKeysTest, OutOfReachDeniedAndDestroyedAreToldApart) {
  auto service = Open(WithKeks());
  a_->Set(absl::PermissionDeniedError("403"));
  b_->Set(absl::FailedPreconditionError("there is no such key"));
  AskUntilSaid(*service, TopicUnder("t", "a", "k"), "a key of KEK a/k is denied to this agent: 403");
  AskUntilSaid(*service, TopicUnder("t", "b", "k"), "a key of KEK b/k cannot be used: there is no such key");
  NoteSays(*service, "KEK a/k is denied to this agent: 403 (and other KEKs)");
  EXPECT_TRUE(Eventually([&] {
    const auto stats = service->kekStats();
    return stats.at(0).troubles[1] == 1 && stats.at(1).troubles[2] == 1;
  }));
}

TEST_F(KekKeysTest, AnAgentWithoutTheProviderSaysSoAndOpensNothing) {
  auto service = Open(WithKeks());
  const ScopeKey made = KeyOf(*service, TopicUnder("orders", "a", "kafka-orders"));
  service.reset();
  KeyServiceOptions options = WithKeks();
  options.kekProviders.erase("a");
  service = Open(options);
  const std::string said = "a key of KEK a/kafka-orders cannot be used: this agent has no provider a (keys.keks)";
  const FetchResult found = AskUntilSaid(*service, ById(made.id), said);
  EXPECT_TRUE(found.ids.empty());
  AskUntilSaid(*service, TopicUnder("orders", "a", "kafka-orders"), said);
}

TEST_F(KekKeysTest, AKekThatIsDeniedOpensNothingAfterTheTimeOfTheCache) {
  auto service = Open(WithKeks());
  const ScopeKey made = KeyOf(*service, TopicUnder("orders", "a", "k"));
  KeyCache cache(*service);
  EXPECT_EQ(StateOf(*service, cache, made.id), KeyCache::State::kReady);
  a_->Set(absl::PermissionDeniedError("revoked"));
  // Half of it after the KEK was asked last: what is fetched now is not kept for longer.
  Advance(seconds(31));
  KeyCache late(*service);
  EXPECT_EQ(StateOf(*service, late, made.id), KeyCache::State::kReady);
  HealthSays(*service, "revoked; its keys serve until keys.cacheTtl is over");
  Advance(seconds(29));
  for (KeyCache* each : {&cache, &late}) {
    EXPECT_EQ(StateOf(*service, *each, made.id), KeyCache::State::kNotCached);
  }
  EXPECT_FALSE(Ask(*service, ById(made.id)).status.ok());
  AskUntilSaid(*service, TopicUnder("orders", "a", "k"), "denied");
}

TEST_F(KekKeysTest, AKeyInUseIsUnwrappedAgainBeforeItIsTooOld) {
  const KeyServiceOptions options = WithKeks();
  auto service = Open(options);
  const ScopeKey made = KeyOf(*service, TopicUnder("orders", "a", "k"));
  Advance(seconds(31));
  EXPECT_TRUE(Eventually([&] { return a_->unwraps == 1; })) << "nobody has to ask for it";
  // The answer is taken with the next question.
  EXPECT_TRUE(Eventually([&] { return Ask(*service, ById(made.id)).unwrapped >= options.steadyNow(); }));
  Advance(seconds(59));
  EXPECT_TRUE(Ask(*service, ById(made.id)).status.ok()) << "nobody waits for the provider";
  EXPECT_EQ(a_->generates, 1);
}

TEST_F(KekKeysTest, TheNextWindowHasAnotherKekKey) {
  KeyServiceOptions options = WithKeks();
  auto service = Open(options);
  const ScopeKey before = KeyOf(*service, TopicUnder("orders", "a", "k"));
  Advance(options.sharedKeyWindow);
  const ScopeKey after = KeyOf(*service, TopicUnder("orders", "a", "k"));
  EXPECT_FALSE(before.key.Equals(after.key));
  EXPECT_EQ(a_->generates, 2);
  EXPECT_EQ(AskUntilThere(*service, ById(before.id)).ids.at(0).state, FetchResult::IdState::kReady);
}

TEST_F(KekKeysTest, TheWindowsOfKeksBeginAtMomentsOfTheirOwn) {
  KeyServiceOptions options = WithKeks();
  auto service = Open(options);
  constexpr int kKeks = 20;
  Misses topics;
  for (int i = 0; i < kKeks; ++i) topics.scopes.push_back(TopicUnder("t", "a", absl::StrCat("k", i)).scopes[0]);
  AskUntilThere(*service, topics);
  ASSERT_EQ(a_->generates, kKeks);
  Advance(options.sharedKeyWindow / 2);
  AskUntilThere(*service, topics);
  EXPECT_GT(a_->generates, kKeks + kKeks / 5);
  EXPECT_LT(a_->generates, kKeks + kKeks * 4 / 5);
  Advance(options.sharedKeyWindow / 2);
  AskUntilThere(*service, topics);
  EXPECT_EQ(a_->generates, 2 * kKeks);
}

TEST_F(KekKeysTest, NamesThatNoKeyCanHaveAreNotAskedFor) {
  auto service = Open(WithKeks());
  for (const char* name : {"", "a/../b", "..", "a//b", "/a", "a b", "k?x=1", "${topic}"}) {
    AskUntilSaid(*service, TopicUnder("t", "a", name), "no key of the provider can have this name");
  }
  EXPECT_EQ(a_->generates, 0);
}

TEST_F(KekKeysTest, AWorkloadThatNamesManyKeksWaitsAloneForThem) {
  KeyServiceOptions options = WithKeks();
  const auto start = std::chrono::steady_clock::now();
  options.timerNow = [start] { return start; };  // nothing is filled up again
  options.kekProviders["a"].openKek = [this](std::string_view) { return std::make_unique<SlowRootKey>(nullptr, a_); };
  auto service = Open(options);
  a_->Set(absl::FailedPreconditionError("there is no such key"));
  const size_t most = 10 * KekKeys::kNewPerSecond;
  Misses many;
  for (size_t i = 0; i < kMostKeysOfAFetch; ++i) many.scopes.push_back(TopicUnder("t", "a", absl::StrCat(i)).scopes[0]);
  EXPECT_FALSE(Ask(*service, Copy(many), "greedy.service").status.ok());
  for (size_t i = 0; i < many.scopes.size(); ++i) many.scopes[i] = TopicUnder("t", "a", absl::StrCat("x", i)).scopes[0];
  EXPECT_FALSE(Ask(*service, Copy(many), "greedy.service").status.ok());
  // Each turn asks for a few of them.
  EXPECT_TRUE(Eventually([&] {
    (void)Ask(*service, Copy(many), "greedy.service");
    return a_->generates == static_cast<int>(most);
  })) << a_->generates;
  const auto hers = TopicUnder("t", "b", "k");
  EXPECT_TRUE(Eventually([&] { return Ask(*service, Copy(hers), "modest.service").status.ok(); }));
  EXPECT_EQ(a_->generates, static_cast<int>(most));
}

TEST_F(KekKeysTest, WhatTheRegistryLacksOrAnotherKekHasWrappedIsDamaged) {
  auto service = Open(WithKeks());
  const ScopeKey made = KeyOf(*service, TopicUnder("orders", "a", "k"));
  const ScopeKey other = KeyOf(*service, TopicUnder("orders", "a", "l"));
  service.reset();
  Execute("UPDATE kekKeys SET wrappedKey = (SELECT wrappedKey FROM kekKeys WHERE name = 'l') WHERE name = 'k'");
  service = Open(WithKeks());
  const auto damaged = [](const FetchResult& result) {
    return result.ids.size() == 1 && result.ids[0].state == FetchResult::IdState::kDamaged;
  };
  AskUntil(*service, ById(made.id), damaged);
  HealthSays(*service, "does not open what it has wrapped");
  EXPECT_EQ(AskUntilThere(*service, ById(other.id)).ids.at(0).state, FetchResult::IdState::kReady);
  service.reset();
  Execute("DELETE FROM kekKeys");
  service = Open(WithKeks());
  AskUntil(*service, ById(made.id), damaged);
}

TEST_F(KekKeysTest, KeysOfOneVaultAreOpenedByTheirNames) {
  FakeVault vault;
  for (const char* key : {"orders", "clicks"}) vault.MakeKey(key);
  vault.AddToken("token");
  WriteFile(folder_ + "/token", "token");
  KeyServiceOptions options = Options();
  options.kekProviders["v"].vault = VaultOptions{.address = vault.address(), .secretFile = folder_ + "/token"};
  auto service = Open(options);
  const ScopeKey orders = KeyOf(*service, TopicUnder("orders", "v", "orders"));
  const ScopeKey clicks = KeyOf(*service, TopicUnder("clicks", "v", "clicks"));
  EXPECT_EQ(vault.Count("datakey/plaintext/orders"), 1);
  service.reset();
  vault.DeleteKey("orders");
  service = Open(options);
  AskUntilSaid(*service, ById(orders.id), "a key of KEK v/orders cannot be used: Vault key transit/orders at ");
  EXPECT_EQ(AskUntilThere(*service, ById(clicks.id)).ids.at(0).state, FetchResult::IdState::kReady);
  AskUntilSaid(*service, TopicUnder("orders", "v", "orders"), "there is no such key");
  EXPECT_EQ(vault.Count("datakey"), 2) << "a KEK key is not made anew";
  EXPECT_THAT(vault.complaints(), IsEmpty());
}

TEST_F(KekKeysTest, TheKeysOfAProviderShareASessionWhichEndsWithTheAgent) {
  FakeVault vault;
  for (const char* key : {"orders", "clicks"}) vault.MakeKey(key);
  vault.AllowLogin("/v1/auth/approle/login", {{"role_id", "role"}, {"secret_id", "secret"}}, 3600);
  WriteFile(folder_ + "/secret", "secret");
  KeyServiceOptions options = Options();
  options.kekProviders["v"].vault = VaultOptions{.address = vault.address(),
                                                 .auth = VaultOptions::Auth::kAppRole,
                                                 .secretFile = folder_ + "/secret",
                                                 .role = "role",
                                                 .authMount = "approle"};
  auto service = Open(options);
  KeyOf(*service, TopicUnder("orders", "v", "orders"));
  KeyOf(*service, TopicUnder("clicks", "v", "clicks"));
  EXPECT_EQ(service->RotateKekKeys("v", "", {})->keks.size(), 2u);
  EXPECT_EQ(vault.Count("/login"), 1);
  EXPECT_EQ(vault.tokens(), 1u);
  service.reset();
  EXPECT_EQ(vault.tokens(), 0u) << "it is revoked";
  EXPECT_THAT(vault.complaints(), IsEmpty());
}

TEST_F(KekKeysTest, NamesOfAKekAreThoseOfTheKeyspace) {
  const KekName kek{"payments", "kafka-orders"};
  const std::string keyspace = KeyspaceUnder("main", kek);
  EXPECT_EQ(KekOf({Scope::kTopic, keyspace, "orders"}), kek);
  EXPECT_EQ(KekOf({Scope::kCluster, KeyspaceUnder("", kek), "main"}), kek);
  EXPECT_EQ(KekOf({Scope::kTopic, "main", "orders"}), std::nullopt);
  EXPECT_EQ(KekOf({Scope::kUser, keyspace, "38"}), kek);
  EXPECT_EQ(NameOfRow({Scope::kUser, keyspace, "38"}), (ScopeName{Scope::kUser, "main", "38"}));
  EXPECT_EQ(NameOfRow({Scope::kTopic, keyspace, "orders"}), (ScopeName{Scope::kTopic, keyspace, "orders"}));
}

}  // namespace
}  // namespace kveil::keys
