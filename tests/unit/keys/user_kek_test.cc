// Keys of users that a KEK key was mixed into: one row per user, another key under each KEK.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "kek_fixture.h"
#include "keys/cache/key_cache.h"

namespace kveil::keys {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using State = KeyCache::State;

class UserKekTest : public KekKeysTest {
 protected:
  static KeyRef RefOf(const ScopeKey& key) { return {key.id, key.kek.value().id}; }
  // As a worker, until it is there.
  static CachedKey* Fetch(KeyService& service, KeyCache& cache, const Misses& misses) {
    cache.Refresh();
    EXPECT_TRUE(cache.Deliver(AskUntilThere(service, misses)).ok());
    return Find(cache, misses);
  }
  static CachedKey* Find(KeyCache& cache, const Misses& misses) {
    cache.Refresh();
    return cache.FindForSealing(misses.scopes.at(0).view());
  }
  static State StateAfter(KeyCache& cache, const KeyRef& ref) {
    cache.Refresh();
    return cache.FindById(ref).state;
  }
  static Misses UserAlone(std::string_view user) {
    Misses misses;
    misses.scopes.emplace_back(User(user));
    return misses;
  }
};

TEST_F(UserKekTest, AUserHasOneKeyAndSealsWithAnotherUnderEachKek) {
  auto service = Open(WithKeks());
  const ScopeKey alone = KeyOf(*service, UserAlone("38"));
  const ScopeKey one = KeyOf(*service, UserUnder("38", "a", "k"));
  const ScopeKey two = KeyOf(*service, UserUnder("38", "b", "k"));
  EXPECT_FALSE(alone.kek.has_value());
  EXPECT_EQ(crypto::ComputeKeyId(alone.key), alone.id);
  for (const ScopeKey* key : {&one, &two}) {
    EXPECT_EQ(key->id, alone.id) << "the user is erased by this";
    EXPECT_FALSE(key->key.Equals(alone.key));
  }
  EXPECT_FALSE(one.key.Equals(two.key));
  service.reset();
  service = Open(WithKeks());
  for (const ScopeKey* key : {&one, &two}) {
    const FetchResult found = AskUntilThere(*service, ById(RefOf(*key)));
    ASSERT_EQ(found.ids.size(), 1u);
    EXPECT_TRUE(found.ids[0].key.key.Equals(key->key));
  }
  EXPECT_TRUE(AskUntilThere(*service, ById(alone.id)).ids.at(0).key.key.Equals(alone.key));
  EXPECT_EQ(service->ReadKeyspaces().value(), std::vector<std::string>{"clicks"}) << "a KEK is no part of it";
}

TEST_F(UserKekTest, ManyUsersOfOneKekCostOneCall) {
  auto service = Open(WithKeks());
  Misses users, ids;
  for (int i = 0; i < 200; ++i) users.scopes.push_back(UserUnder(absl::StrCat(i), "a", "k").scopes[0]);
  const FetchResult made = AskUntilThere(*service, users);
  for (const FetchResult::ByScope& scope : made.scopes) ids.ids.push_back(RefOf(scope.key));
  EXPECT_EQ(a_->generates, 1);
  service.reset();
  service = Open(WithKeks());
  EXPECT_EQ(AskUntilThere(*service, ids).ids.size(), 200u);
  EXPECT_EQ(a_->unwraps, 1);
}

TEST_F(UserKekTest, ANextWindowHasAnotherKeyAndTheOldOneStaysReadable) {
  KeyServiceOptions options = WithKeks();
  auto service = Open(options);
  const ScopeKey before = KeyOf(*service, UserUnder("38", "a", "k"));
  Advance(options.sharedKeyWindow);
  const ScopeKey after = KeyOf(*service, UserUnder("38", "a", "k"));
  EXPECT_EQ(before.id, after.id);
  EXPECT_FALSE(before.key.Equals(after.key));
  EXPECT_TRUE(AskUntilThere(*service, ById(RefOf(before))).ids.at(0).key.key.Equals(before.key));
}

TEST_F(UserKekTest, AnErasureDropsTheUserUnderEveryKek) {
  auto service = Open(WithKeks());
  KeyCache cache(*service);
  const std::vector<Misses> names = [] {
    std::vector<Misses> all;
    all.push_back(UserAlone("38"));
    all.push_back(UserUnder("38", "a", "k"));
    all.push_back(UserUnder("38", "a", "l"));
    all.push_back(UserUnder("38", "b", "k"));
    return all;
  }();
  std::vector<KeyRef> refs;
  for (const Misses& name : names) {
    const CachedKey* const key = Fetch(*service, cache, name);
    ASSERT_NE(key, nullptr);
    refs.push_back(key->kek == nullptr ? KeyRef(key->id) : KeyRef(key->id, key->kek->id));
  }
  const CachedKey* const other = Fetch(*service, cache, UserUnder("39", "a", "k"));
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(cache.size(), 5u);
  a_->Set(absl::PermissionDeniedError("no more"));
  ASSERT_TRUE(service->Erase(std::nullopt, "38").ok());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(Find(cache, names[i]), nullptr);
    EXPECT_EQ(StateAfter(cache, refs[i]), State::kErased) << "whatever the provider says";
  }
  EXPECT_EQ(Find(cache, UserUnder("39", "a", "k")), other);
  EXPECT_EQ(cache.size(), 2u) << "what is erased is wiped";
  // One who has none of it yet needs no provider either to hear of it.
  KeyCache late(*service);
  for (const KeyRef& ref : refs) EXPECT_EQ(StateOf(*service, late, ref), State::kErased);
  const ScopeKey thrownAway = KeyOf(*service, UserUnder("38", "b", "k"));
  EXPECT_TRUE(thrownAway.erasedSubject);
  EXPECT_TRUE(thrownAway.kek.has_value());
  EXPECT_EQ(StateOf(*service, late, RefOf(thrownAway)), State::kErased);
}

// As a look at the registry may, before the agent has polled the news.
TEST_F(UserKekTest, AnErasureThatAReaderSeesEndsTheUserUnderEveryKek) {
  auto service = Open(WithKeks());
  KeyCache cache(*service);
  std::vector<KeyRef> refs;
  for (const char* kek : {"k", "l"}) {
    const CachedKey* const key = Fetch(*service, cache, UserUnder("38", "a", kek));
    ASSERT_NE(key, nullptr);
    refs.emplace_back(key->id, key->kek->id);
  }
  FetchResult seen;
  seen.generation = service->revocations().generation();
  seen.unwrapped = service->options().steadyNow();
  seen.ids.push_back({.id = refs[0].id, .state = FetchResult::IdState::kErased, .key = {}, .kek = refs[0].kek});
  ASSERT_TRUE(cache.Deliver(std::move(seen)).ok());
  for (const KeyRef& ref : refs) EXPECT_EQ(StateAfter(cache, ref), State::kErased);
  for (const char* kek : {"k", "l"}) EXPECT_EQ(Find(cache, UserUnder("38", "a", kek)), nullptr);
}

TEST_F(UserKekTest, AKekThatIsDeniedOpensNothingAfterTheTimeOfTheCache) {
  auto service = Open(WithKeks());
  const Misses name = UserUnder("38", "a", "k");
  const KeyRef ref = RefOf(KeyOf(*service, name));
  KeyCache cache(*service);
  EXPECT_EQ(StateOf(*service, cache, ref), State::kReady);
  a_->Set(absl::PermissionDeniedError("revoked"));
  // What is fetched now is not kept for longer.
  Advance(seconds(31));
  KeyCache late(*service);
  EXPECT_EQ(StateOf(*service, late, ref), State::kReady);
  const CachedKey* const alone = Fetch(*service, late, UserAlone("38"));
  HealthSays(*service, "revoked; its keys serve until keys.cacheTtl is over");
  Advance(seconds(29));
  for (KeyCache* each : {&cache, &late}) EXPECT_EQ(StateOf(*service, *each, ref), State::kNotCached);
  AskUntilSaid(*service, ById(ref), "a key of KEK a/k is denied to this agent: revoked");
  AskUntilSaid(*service, name, "a key of KEK a/k is denied to this agent: revoked");
  EXPECT_EQ(Find(late, UserAlone("38")), alone) << "what is under no KEK goes on";
  // And soon is not in memory any more.
  Advance(seconds(30));
  late.Refresh();
  EXPECT_EQ(late.size(), 1u);
}

TEST_F(UserKekTest, AKekThatIsThereCostsNoUserAnotherLook) {
  auto service = Open(WithKeks());
  KeyOf(*service, UserUnder("first", "a", "k"));
  Advance(seconds(20));
  KeyCache hears(*service), hearsNothing(*service);
  for (KeyCache* cache : {&hears, &hearsNothing})
    ASSERT_NE(Fetch(*service, *cache, UserUnder("38", "a", "k")), nullptr);
  Advance(seconds(15));
  EXPECT_TRUE(Eventually([&] { return a_->unwraps == 1; })) << "half of its time is over";
  const auto lately = service->options().steadyNow() - seconds(10);
  EXPECT_TRUE(Eventually([&] { return KeyOf(*service, UserUnder("first", "a", "k")).kek.value().asked > lately; }));
  ASSERT_NE(Fetch(*service, hears, UserUnder("39", "a", "k")), nullptr);
  Advance(seconds(30));
  EXPECT_NE(Find(hears, UserUnder("38", "a", "k")), nullptr) << "another user of the KEK has brought the news";
  EXPECT_EQ(Find(hearsNothing, UserUnder("38", "a", "k")), nullptr);
  ASSERT_NE(Fetch(*service, hearsNothing, UserUnder("38", "a", "k")), nullptr);
  Advance(seconds(20));
  EXPECT_EQ(Find(hears, UserUnder("38", "a", "k")), nullptr) << "it is too old itself";
}

TEST_F(UserKekTest, AnIdOfAKekKeyThatNobodyMadeIsUnknownAndThatOfAnotherKekIsAnotherKey) {
  auto service = Open(WithKeks());
  const ScopeKey one = KeyOf(*service, UserUnder("38", "a", "k"));
  const ScopeKey two = KeyOf(*service, UserUnder("39", "b", "k"));
  const KeyRef madeUp(one.id, crypto::ComputeKeyId(crypto::SecretKey::Random()));
  EXPECT_EQ(AskUntilThere(*service, ById(madeUp)).ids.at(0).state, FetchResult::IdState::kUnknown);
  EXPECT_TRUE(service->health().ok()) << "a record is no damage: " << service->health();
  NoteSays(*service, "the registry lacks a KEK key that a record or a key is under");
  KeyCache cache(*service);
  EXPECT_TRUE(Eventually([&] { return StateOf(*service, cache, madeUp) == State::kUnknown; }));
  const KeyRef mixed(one.id, two.kek.value().id);
  const FetchResult found = AskUntilThere(*service, ById(mixed));
  EXPECT_EQ(found.ids.at(0).state, FetchResult::IdState::kReady);
  EXPECT_FALSE(found.ids.at(0).key.key.Equals(one.key));
  const KeyRef nobody(madeUp.kek.value(), one.kek.value().id);
  EXPECT_EQ(AskUntilThere(*service, ById(nobody)).ids.at(0).state, FetchResult::IdState::kUnknown);
}

TEST_F(UserKekTest, MadeUpIdsOfKekKeysAreLookedUpAtABoundedRate) {
  KeyServiceOptions options = WithKeks();
  const auto start = std::chrono::steady_clock::now();
  options.timerNow = [start] { return start; };  // nothing is filled up again
  auto service = Open(options);
  const ScopeKey one = KeyOf(*service, UserUnder("38", "a", "k"));
  Misses many;
  for (size_t i = 0; i < 2 * kMostKeysOfAFetch; ++i) {
    many.ids.emplace_back(one.id, crypto::ComputeKeyId(crypto::SecretKey::Random()));
  }
  absl::Status status;
  EXPECT_TRUE(Eventually([&] {
    status = Ask(*service, Copy(many), "greedy.service").status;
    return absl::StrContains(status.message(), "workload greedy.service needs keys of more than 30 new KEKs");
  })) << status;
  EXPECT_TRUE(AskUntilThere(*service, ById(RefOf(one))).status.ok()) << "what is there is not looked up";
}

TEST_F(UserKekTest, ANewUserIsNotMadeWhileTheKekIsOut) {
  a_->Set(absl::FailedPreconditionError("there is no such key"));
  auto service = Open(WithKeks());
  AskUntilSaid(*service, UserUnder("38", "a", "k"), "a key of KEK a/k cannot be used: there is no such key");
  EXPECT_TRUE(service->ReadKeyspaces().value().empty());
  KeyOf(*service, UserUnder("38", "b", "k"));
  KeyOf(*service, UserAlone("38"));
}

TEST_F(UserKekTest, EachUserIsFoundUnderTheKekThatIsNamed) {
  auto service = Open(WithKeks());
  KeyCache cache(*service);
  const std::string longName(100, 'n');
  const std::string longUser(300, 'u');
  for (const std::string& kek : {std::string("k"), longName}) {
    for (const std::string& user : {std::string("38"), longUser}) {
      const Misses name = UserUnder(user, "a", kek);
      CachedKey* const key = Fetch(*service, cache, name);
      ASSERT_NE(key, nullptr);
      EXPECT_EQ(Find(cache, name), key);
      EXPECT_EQ(Find(cache, UserUnder(user, "b", kek)), nullptr);
      EXPECT_EQ(Find(cache, UserUnder(user, "a", kek + "k")), nullptr);
    }
  }
  EXPECT_EQ(Find(cache, UserAlone("38")), nullptr);
  EXPECT_EQ(cache.size(), 4u);
}

}  // namespace
}  // namespace kveil::keys
