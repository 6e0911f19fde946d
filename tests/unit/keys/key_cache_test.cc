// The cache: how long a key lives in it, what an erasure does to it, how much it holds.
#include "keys/cache/key_cache.h"

#include <gmock/gmock.h>

#include <thread>

#include "crypto/hmac.h"
#include "key_fixture.h"
#include "keys/service/revocations.h"

namespace kveil::keys {
namespace {

using State = KeyCache::State;
using std::chrono::milliseconds;
using std::chrono::seconds;

class KeyCacheTest : public KeyTest {
 protected:
  std::unique_ptr<KeyService> service_ = Open();
  KeyCache cache_{*service_};
};

TEST_F(KeyCacheTest, FindsWhatWasFetchedByNameAndById) {
  EXPECT_EQ(cache_.FindForSealing(User("38")), nullptr);
  const CachedKey* key = SealingKey(*service_, cache_, User("38"));
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(key->scope, Scope::kUser);
  EXPECT_FALSE(key->erasedSubject);
  EXPECT_EQ(key->id, crypto::ComputeKeyId(key->key));
  EXPECT_EQ(cache_.FindForSealing(User("38")), key);
  EXPECT_EQ(cache_.FindById(key->id).state, State::kReady);
  EXPECT_EQ(cache_.FindById(key->id).key, key);
}

TEST_F(KeyCacheTest, GivesEverySubjectKeyspaceAndScopeItsOwnKey) {
  std::vector<crypto::KeyId> ids;
  for (ScopeName name : {User("38"), User("39"), User("38", "orders"), ScopeName{Scope::kTopic, "clicks", "38"},
                         ScopeName{Scope::kCluster, "clicks", "38"}, User("8", "clicks3")}) {
    ids.push_back(SealingKey(*service_, cache_, name)->id);
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(ids[i] == ids[j]) << i << " " << j;
  }
}

TEST_F(KeyCacheTest, ForgetsAKeyWhenItsTimeSinceTheUnwrapIsOver) {
  const crypto::KeyId id = SealingKey(*service_, cache_, User("38"))->id;
  for (int i = 0; i < 5; ++i) {
    Advance(milliseconds(11'999));
    cache_.Refresh();
    // Use does not make it live longer.
    ASSERT_NE(cache_.FindForSealing(User("38")), nullptr) << i;
    ASSERT_EQ(cache_.FindById(id).state, State::kReady);
  }
  Advance(milliseconds(6));
  cache_.Refresh();
  EXPECT_EQ(cache_.FindForSealing(User("38")), nullptr);
  EXPECT_EQ(cache_.FindById(id).state, State::kNotCached);
  EXPECT_EQ(cache_.size(), 0u) << "a key that is too old stayed in memory";
}

TEST_F(KeyCacheTest, CountsTheTimeFromTheUnwrapAndNotFromTheDelivery) {
  Misses misses;
  misses.scopes.emplace_back(User("38"));
  FetchResult result = Ask(*service_, std::move(misses));
  Advance(seconds(59));
  ASSERT_TRUE(cache_.Deliver(std::move(result)).ok());
  EXPECT_NE(cache_.FindForSealing(User("38")), nullptr);
  Advance(seconds(1));
  cache_.Refresh();
  EXPECT_EQ(cache_.FindForSealing(User("38")), nullptr);
}

TEST_F(KeyCacheTest, ForgetsAKeyThatWasDeliveredLateAtItsOwnTime) {
  Misses misses;
  misses.scopes.emplace_back(User("38"));
  FetchResult late = Ask(*service_, std::move(misses));
  Advance(seconds(30));
  SealingKey(*service_, cache_, User("39"));
  ASSERT_TRUE(cache_.Deliver(std::move(late)).ok());
  const crypto::KeyId id = cache_.FindForSealing(User("38"))->id;
  Advance(seconds(30));
  cache_.Refresh();
  EXPECT_EQ(cache_.FindForSealing(User("38")), nullptr);
  EXPECT_EQ(cache_.FindById(id).state, State::kNotCached);
  EXPECT_NE(cache_.FindForSealing(User("39")), nullptr);
}

TEST_F(KeyCacheTest, DoesNotLetAFetchByIdMakeAKeyLiveLonger) {
  const crypto::KeyId id = SealingKey(*service_, cache_, User("38"))->id;
  Advance(seconds(40));
  Misses misses;
  misses.ids.push_back(id);
  ASSERT_TRUE(cache_.Deliver(Ask(*service_, std::move(misses))).ok());
  EXPECT_NE(cache_.FindForSealing(User("38")), nullptr);
  Advance(seconds(20));
  cache_.Refresh();
  EXPECT_EQ(cache_.FindForSealing(User("38")), nullptr);
}

TEST_F(KeyCacheTest, RemembersAnUnknownIdForASecondOnly) {
  const crypto::KeyId id = crypto::ComputeKeyId(crypto::SecretKey::Random());
  EXPECT_EQ(StateOf(*service_, cache_, id), State::kUnknown);
  Advance(milliseconds(999));
  cache_.Refresh();
  EXPECT_EQ(cache_.FindById(id).state, State::kUnknown);
  Advance(milliseconds(1));
  cache_.Refresh();
  EXPECT_EQ(cache_.FindById(id).state, State::kNotCached);
}

TEST_F(KeyCacheTest, DropsAnErasedKeyAtTheNextRefresh) {
  const crypto::KeyId id = SealingKey(*service_, cache_, User("38"))->id;
  const crypto::KeyId other = SealingKey(*service_, cache_, User("39"))->id;
  ASSERT_TRUE(service_->Erase("clicks", "38").ok());
  cache_.Refresh();
  EXPECT_EQ(cache_.FindForSealing(User("38")), nullptr);
  EXPECT_EQ(cache_.FindById(id).state, State::kErased);
  EXPECT_EQ(cache_.FindById(id).key, nullptr);
  EXPECT_EQ(cache_.FindById(other).state, State::kReady);
}

users::SharedFacts FactsWithConsent(const std::string& purpose) {
  return std::make_shared<const users::UserFacts>(users::UserFacts{.consents = {{purpose}}});
}

TEST_F(KeyCacheTest, KnowsTheFactsOfAUserAsLongAsTheKey) {
  Misses misses;
  for (const char* user : {"38", "39", "40"}) misses.scopes.emplace_back(User(user));
  FetchResult result = Ask(*service_, std::move(misses));
  users::SharedFacts facts = FactsWithConsent("marketing");
  result.scopes[0].key.facts = facts;
  result.scopes[1].key.facts = facts;
  ASSERT_TRUE(cache_.Deliver(std::move(result)).ok());
  const std::weak_ptr<const users::UserFacts> held = std::exchange(facts, nullptr);
  const users::UserFacts* const known = cache_.FactsOf(*cache_.FindForSealing(User("38")));
  ASSERT_NE(known, nullptr);
  EXPECT_TRUE(known->Consents("marketing", absl::Now()));
  EXPECT_EQ(cache_.FactsOf(*cache_.FindForSealing(User("39"))), known) << "the same facts have one address";
  EXPECT_EQ(cache_.FactsOf(*cache_.FindForSealing(User("40"))), nullptr);
  ASSERT_TRUE(service_->Erase("clicks", "38").ok());
  cache_.Refresh();
  EXPECT_EQ(held.use_count(), 1) << "an erased user's facts stayed in memory";
  Advance(seconds(61));
  cache_.Refresh();
  EXPECT_TRUE(held.expired()) << "facts outlived their keys";
}

TEST_F(KeyCacheTest, TakesNoOtherUsersFactsInAKeysOldPlace) {
  Misses misses;
  misses.scopes.emplace_back(User("38"));
  FetchResult result = Ask(*service_, std::move(misses));
  result.scopes[0].key.facts = FactsWithConsent("marketing");
  ASSERT_TRUE(cache_.Deliver(std::move(result)).ok());
  Advance(seconds(61));
  cache_.Refresh();
  ASSERT_EQ(cache_.size(), 0u);
  const CachedKey* const next = SealingKey(*service_, cache_, User("39"));
  EXPECT_EQ(cache_.FactsOf(*next), nullptr);
}

TEST_F(KeyCacheTest, DoesNotLetAResultOnItsWayBringAnErasedKeyBack) {
  const crypto::KeyId id = SealingKey(*service_, cache_, User("38"))->id;
  Misses byName;
  byName.scopes.emplace_back(User("38"));
  byName.scopes.emplace_back(User("39"));
  Misses byId;
  byId.ids.push_back(id);
  // A cache that knew of the erasure when the result came, and one that did not.
  KeyCache fresh(*service_);
  KeyCache* const caches[] = {&cache_, &fresh};
  std::vector<FetchResult> results;
  for (const Misses& misses : {byName, byId, byName, byId}) results.push_back(Ask(*service_, misses));
  ASSERT_TRUE(service_->Erase("clicks", "38").ok());
  cache_.Refresh();
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(caches[i]->Deliver(std::move(results[2 * i])).ok());
    EXPECT_EQ(caches[i]->FindForSealing(User("38")), nullptr);
    EXPECT_EQ(caches[i]->FindById(id).key, nullptr);
    EXPECT_NE(caches[i]->FindForSealing(User("39")), nullptr);
    ASSERT_TRUE(caches[i]->Deliver(std::move(results[2 * i + 1])).ok());
    EXPECT_EQ(caches[i]->FindById(id).state, State::kErased);
  }
}

TEST_F(KeyCacheTest, EmptiesItselfWhenItMissedTooManyErasures) {
  Revocations revocations;
  std::vector<crypto::KeyId> ids(1000);
  for (int i = 0; i < 100; ++i) revocations.Revoke(ids);
  EXPECT_TRUE(revocations.After(0).all);
  EXPECT_FALSE(revocations.After(99).all);
  EXPECT_EQ(revocations.After(99).erased.size(), 1000u);
  EXPECT_TRUE(revocations.After(100).erased.empty());
  revocations.RevokeAll();
  EXPECT_TRUE(revocations.After(100).all);
  EXPECT_FALSE(revocations.After(101).all);
}

TEST_F(KeyCacheTest, HoldsNoMoreThanItsCapacityAndDropsTheOldest) {
  KeyCache small(*service_, seconds(5), 10);
  for (int i = 0; i < 30; ++i) {
    SealingKey(*service_, small, User(std::to_string(i)));
    Advance(seconds(6));
  }
  small.Refresh();
  EXPECT_LE(small.size(), 10u);
  EXPECT_EQ(small.FindForSealing(User("0")), nullptr);
  EXPECT_NE(small.FindForSealing(User("29")), nullptr);
}

TEST_F(KeyCacheTest, KeepsTheKeysOfAFrameWithMoreUsersThanItsCapacity) {
  KeyCache small(*service_, seconds(5), 10);
  Misses misses;
  for (int i = 0; i < 35; ++i) misses.scopes.emplace_back(User(std::to_string(i)));
  ASSERT_TRUE(small.Deliver(Ask(*service_, std::move(misses))).ok());
  for (int i = 0; i < 35; ++i) EXPECT_NE(small.FindForSealing(User(std::to_string(i))), nullptr) << i;
  for (int i = 35; i < 80; ++i) SealingKey(*service_, small, User(std::to_string(i)));
  EXPECT_LE(small.size(), 40u) << "the hard limit is four times the capacity";
}

TEST_F(KeyCacheTest, TakesANewTopicKeyEachWindowAndStillFindsTheOldById) {
  KeyServiceOptions options = Options();
  options.sharedKeyWindow = std::chrono::hours(1);
  service_.reset();
  auto service = Open(options);
  KeyCache cache(*service);
  const crypto::KeyId first = SealingKey(*service, cache, Topic("orders"))->id;
  const crypto::KeyId user = SealingKey(*service, cache, User("38"))->id;
  Advance(std::chrono::hours(1));
  EXPECT_FALSE(SealingKey(*service, cache, Topic("orders"))->id == first);
  EXPECT_EQ(SealingKey(*service, cache, User("38"))->id, user);
  EXPECT_EQ(StateOf(*service, cache, first), State::kReady);
}

TEST_F(KeyCacheTest, SealsAUsersFurtherRecordsWithBatchKeysWhereTheyAreVeryMany) {
  CachedKey* key = SealingKey(*service_, cache_, User("38"));
  EXPECT_EQ(cache_.TakeSuite(*key), crypto::Suite::kPeriodKey);
  key->sealed = KeyCache::kMostUnderAPeriodKey - 1;
  EXPECT_EQ(cache_.TakeSuite(*key), crypto::Suite::kPeriodKey);
  EXPECT_EQ(cache_.TakeSuite(*key), crypto::Suite::kBatchKey);
  EXPECT_EQ(cache_.TakeSuite(*SealingKey(*service_, cache_, User("39"))), crypto::Suite::kPeriodKey);
  // The count outlives the key's time in the cache.
  for (int i = 0; i < 3; ++i) {
    Advance(seconds(61));
    key = SealingKey(*service_, cache_, User("38"));
    EXPECT_EQ(cache_.TakeSuite(*key), crypto::Suite::kBatchKey) << i;
  }
  Advance(seconds(1 << 14));
  EXPECT_EQ(cache_.TakeSuite(*SealingKey(*service_, cache_, User("38"))), crypto::Suite::kPeriodKey);
}

// One that jumps forth and back would count the records of one period anew with each jump.
TEST_F(KeyCacheTest, CountsOnWhenTheClockOnTheWallJumps) {
  SealingKey(*service_, cache_, User("38"))->sealed = KeyCache::kMostUnderAPeriodKey;
  const crypto::Period period = cache_.CurrentPeriod();
  for (const int64_t jump : {1, -2, 1000, -999}) {  // periods
    wallMillis_ += jump * (1 << 14) * 1000;
    CachedKey* const key = SealingKey(*service_, cache_, User("38"));
    EXPECT_EQ(cache_.TakeSuite(*key), crypto::Suite::kBatchKey) << jump;
    Advance(seconds(61));  // and where the key is loaded again
    EXPECT_EQ(cache_.TakeSuite(*SealingKey(*service_, cache_, User("38"))), crypto::Suite::kBatchKey) << jump;
  }
  EXPECT_EQ(cache_.CurrentPeriod(), period) << "the clock is back where it was";
}

// Whoever is not counted any more adds up to at most 2^23 in a window.
TEST_F(KeyCacheTest, CountsOnAlsoWhereAKeyIsLoadedAgainVeryOften) {
  constexpr uint32_t kInACacheTtl = (1u << 23) / (1 << 14) * 60;
  uint64_t sealed = 0;
  for (int i = 0; i < 3; ++i) {
    CachedKey* const key = SealingKey(*service_, cache_, User("38"));
    EXPECT_EQ(key->sealed, sealed) << i;
    key->sealed += kInACacheTtl;
    sealed = key->sealed;
    Advance(seconds(61));
  }
}

TEST_F(KeyCacheTest, TakesThePeriodFromTheClockOnTheWall) {
  const crypto::Period period = cache_.CurrentPeriod();
  Advance(seconds(1 << 14));
  EXPECT_EQ(cache_.CurrentPeriod(), static_cast<crypto::Period>(period + 1));
}

TEST_F(KeyCacheTest, FindsTheRightKeyWhereTheGuessIsWrong) {
  const CachedKey* const key = SealingKey(*service_, cache_, User("38"));
  const CachedKey* const other = SealingKey(*service_, cache_, User("39"));
  const uint32_t tag = KeyCache::TagOf(User("38"));
  const uint32_t otherTag = KeyCache::TagOf(User("39"));
  ASSERT_NE(cache_.PrefetchKey(tag), cache_.PrefetchKey(otherTag));
  for (const uint32_t guess : {cache_.PrefetchKey(tag), cache_.PrefetchKey(otherTag), kNowhere}) {
    EXPECT_EQ(cache_.FindForSealing(User("38"), tag, guess), key);
    EXPECT_EQ(cache_.FindForSealing(User("39"), otherTag, guess), other);
    EXPECT_EQ(cache_.FindForSealing(User("40"), KeyCache::TagOf(User("40")), guess), nullptr);
    EXPECT_EQ(cache_.FindById(key->id, guess).key, key);
    EXPECT_EQ(cache_.FindById(other->id, guess).key, other);
  }
}

TEST_F(KeyCacheTest, FindsKeysWithLongNames) {
  const std::string user(1024, 'u');
  const CachedKey* const key = SealingKey(*service_, cache_, User(user));
  ASSERT_NE(key, nullptr);
  EXPECT_EQ(cache_.FindForSealing(User(user)), key);
  EXPECT_EQ(cache_.FindForSealing(User(user.substr(1))), nullptr);
}

TEST_F(KeyCacheTest, MasksAndUnmasksAlikeInEveryWorkerAndAfterARestart) {
  const crypto::KeyId id = SealingKey(*service_, cache_, User("38"))->id;
  const crypto::Salt salt = crypto::RandomSalt();
  const crypto::KeyId masked = cache_.mask().Mask(id, salt);
  EXPECT_EQ(KeyCache(*service_).mask().Unmask(masked, salt), id);
  service_.reset();
  auto again = Open();
  EXPECT_EQ(KeyCache(*again).mask().Unmask(masked, salt), id);
}

}  // namespace
}  // namespace kveil::keys
