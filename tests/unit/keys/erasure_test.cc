// Erasure: the key is gone from memory, from the registry and from its log; late records get a key that nobody keeps.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include <random>
#include <string_view>
#include <unordered_map>

#include "key_fixture.h"

namespace kveil::keys {
namespace {

using State = KeyCache::State;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class ErasureTest : public KeyTest {
 protected:
  std::string AllBytes() { return ReadFile(registryFile()) + ReadFile(registryFile() + "-wal"); }

  // The wrapped keys by key id, read as a backup would hold them.
  std::map<std::string, std::string> WrappedKeys() {
    std::map<std::string, std::string> wrapped;
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(database, "SELECT keyId, bytes FROM scopeKeys WHERE epochAndState > 0", -1, &statement, nullptr);
    auto text = [&](int column) {
      return std::string(static_cast<const char*>(sqlite3_column_blob(statement, column)),
                         static_cast<size_t>(sqlite3_column_bytes(statement, column)));
    };
    while (sqlite3_step(statement) == SQLITE_ROW) wrapped[text(0)] = text(1);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return wrapped;
  }
};

TEST_F(ErasureTest, TellsWhatItErased) {
  auto service = Open();
  KeyCache cache(*service);
  SealingKey(*service, cache, User("38", "clicks"));
  SealingKey(*service, cache, User("38", "orders"));
  SealingKey(*service, cache, User("38", "mails"));
  SealingKey(*service, cache, User("39", "clicks"));
  auto one = service->Erase("orders", "38");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->keyCount, 1u);
  EXPECT_THAT(one->keyspaces, ElementsAre("orders"));
  EXPECT_TRUE(one->filesClean);
  EXPECT_EQ(one->erasedAt, absl::FromUnixMillis(wallMillis_));
  auto all = service->Erase(std::nullopt, "38");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->keyCount, 2u);
  EXPECT_THAT(all->keyspaces, UnorderedElementsAre("clicks", "mails"));
  EXPECT_FALSE(SealingKey(*service, cache, User("39", "clicks"))->erasedSubject);
}

TEST_F(ErasureTest, OfAnUnknownUserSaysSoAndOfAnErasedOneSaysWhen) {
  auto service = Open();
  KeyCache cache(*service);
  SealingKey(*service, cache, User("38"));
  EXPECT_EQ(service->Erase(std::nullopt, "37").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(service->Erase("orders", "38").status().code(), absl::StatusCode::kNotFound);
  const absl::Time first = absl::FromUnixMillis(wallMillis_);
  ASSERT_TRUE(service->Erase("clicks", "38").ok());
  Advance(std::chrono::hours(5));
  for (std::optional<std::string_view> keyspace : {std::optional<std::string_view>("clicks"), {}}) {
    absl::Status again = service->Erase(keyspace, "38").status();
    EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(ErasedBefore(again), first);
    EXPECT_THAT(std::string(again.message()), HasSubstr("2025-06-15T15:06:40"));
    EXPECT_EQ(again.message().find("38"), absl::string_view::npos) << "a user's id is in an error";
  }
  EXPECT_EQ(ErasedBefore(absl::NotFoundError("")), std::nullopt);
}

TEST_F(ErasureTest, SurvivesARestart) {
  crypto::KeyId id;
  {
    auto service = Open();
    KeyCache cache(*service);
    id = SealingKey(*service, cache, User("38"))->id;
    ASSERT_TRUE(service->Erase("clicks", "38").ok());
  }
  auto service = Open();
  KeyCache cache(*service);
  EXPECT_EQ(StateOf(*service, cache, id), State::kErased);
  EXPECT_TRUE(SealingKey(*service, cache, User("38"))->erasedSubject);
  EXPECT_EQ(service->Erase("clicks", "38").status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(ErasureTest, EndsForAUserWhoIsReadmitted) {
  auto service = Open();
  KeyCache cache(*service);
  const crypto::KeyId before = SealingKey(*service, cache, User("38"))->id;
  ASSERT_TRUE(service->Erase("clicks", "38").ok());
  EXPECT_TRUE(SealingKey(*service, cache, User("38"))->erasedSubject);
  EXPECT_TRUE(service->Readmit("clicks", "37")->keyspaces.empty());
  absl::StatusOr<ReadmittedUser> readmitted = absl::UnknownError("");
  EXPECT_TRUE(Eventually([&] {
    cache.Refresh();  // until the agent has confirmed
    readmitted = service->Readmit(std::nullopt, "38");
    return !readmitted.ok() || readmitted->underWay.empty();
  }));
  ASSERT_TRUE(readmitted.ok()) << readmitted.status();
  ASSERT_EQ(readmitted->keyspaces.size(), 1u);
  EXPECT_EQ(readmitted->keyspaces[0].keyspace.name, "clicks");
  EXPECT_TRUE(SealingKey(*service, cache, User("38"))->erasedSubject) << "the throw-away key is still in the cache";
  Advance(std::chrono::minutes(3));
  cache.Refresh();
  const CachedKey* const after = SealingKey(*service, cache, User("38"));
  EXPECT_FALSE(after->erasedSubject);
  EXPECT_NE(after->id, before);
  EXPECT_EQ(StateOf(*service, cache, before), State::kErased);
  EXPECT_TRUE(service->Erase("clicks", "38").ok());
}

// Where the policy says so, no command is needed.
TEST_F(ErasureTest, EndsByItselfWhereAPolicySaysSo) {
  auto service = Open();
  KeyCache cache(*service);
  const crypto::KeyId before = SealingKey(*service, cache, User("38"))->id;
  ASSERT_TRUE(service->Erase("clicks", "38").ok());
  EXPECT_TRUE(Eventually([&] {
    Misses misses;
    misses.scopes.emplace_back(User("38")).readmits = true;
    Advance(std::chrono::minutes(1));  // past what the cache keeps
    cache.Refresh();
    return cache.Deliver(Ask(*service, std::move(misses))).ok() && !cache.FindForSealing(User("38"))->erasedSubject;
  }));
  EXPECT_NE(cache.FindForSealing(User("38"))->id, before);
  EXPECT_EQ(StateOf(*service, cache, before), State::kErased);
}

TEST_F(ErasureTest, LeavesNoWrappedKeyInTheRegistryOrItsLog) {
  auto service = Open();
  KeyCache cache(*service);
  std::mt19937 random(38);
  std::vector<std::string> live;
  std::vector<std::string> destroyed;
  // Inserts and erasures mixed, so that pages split, move and fragment.
  for (int round = 0; round < 8; ++round) {
    Misses misses;
    for (int i = 0; i < 120; ++i) {
      live.push_back(std::to_string(round) + "-" + std::to_string(i));
      misses.scopes.emplace_back(User(live.back()));
    }
    ASSERT_TRUE(cache.Deliver(Ask(*service, std::move(misses))).ok());
    for (int i = 0; i < 12; ++i) {
      std::swap(live[random() % live.size()], live.back());
      cache.Refresh();
      const crypto::KeyId id = cache.FindForSealing(User(live.back()))->id;
      const auto wrapped = WrappedKeys();
      auto found = wrapped.find(std::string(AsText(id.bytes)));
      ASSERT_NE(found, wrapped.end());
      ASSERT_NE(AllBytes().find(found->second), std::string::npos) << "the search itself does not work";
      destroyed.push_back(found->second);
      auto result = service->Erase("clicks", live.back());
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_TRUE(result->filesClean);
      ASSERT_EQ(ReadFile(registryFile() + "-wal").size(), 0u);
      live.pop_back();
    }
  }
  const std::string bytes = AllBytes();
  for (const std::string& wrapped : destroyed) {
    for (size_t part = 0; part + 15 <= wrapped.size(); part += 15) {
      ASSERT_EQ(bytes.find(wrapped.substr(part, 15)), std::string::npos);
    }
  }
  EXPECT_EQ(WrappedKeys().size(), live.size());
}

TEST_F(ErasureTest, FindsEveryWrappedKeyInOnePlaceOnly) {
  // A copy that SQLite left behind in a page would survive the erasure of its key.
  auto service = Open();
  for (int round = 0; round < 20; ++round) {
    Misses misses;
    for (int i = 0; i < 150; ++i) misses.scopes.emplace_back(User(std::to_string(round) + "-" + std::to_string(i)));
    ASSERT_TRUE(Ask(*service, std::move(misses)).status.ok());
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(service->Erase("clicks", std::to_string(round) + "-" + std::to_string(i * 30)).ok());
    }
  }
  const auto wrappedKeys = WrappedKeys();
  ASSERT_EQ(wrappedKeys.size(), 20u * 145);
  const std::string bytes = ReadFile(registryFile());
  ASSERT_EQ(ReadFile(registryFile() + "-wal").size(), 0u);
  constexpr size_t kPiece = 15;
  std::unordered_map<std::string_view, int> places;  // by piece of a wrapped key
  for (const auto& [id, wrapped] : wrappedKeys) {
    for (size_t part = 0; part + kPiece <= wrapped.size(); part += kPiece) {
      places.emplace(std::string_view(wrapped).substr(part, kPiece), 0);
    }
  }
  const std::string_view file = bytes;
  for (size_t at = 0; at + kPiece <= file.size(); ++at) {
    if (const auto found = places.find(file.substr(at, kPiece)); found != places.end()) ++found->second;
  }
  for (const auto& [piece, count] : places) ASSERT_EQ(count, 1);
}

TEST_F(ErasureTest, OfOneServiceReachesTheCachesOfAnother) {
  auto one = Open();
  auto other = Open();
  KeyCache cache(*other);
  const crypto::KeyId id = SealingKey(*other, cache, User("38"))->id;
  ASSERT_TRUE(one->Erase("clicks", "38").ok());
  EXPECT_TRUE(Eventually([&] {
    cache.Refresh();
    return cache.FindById(id).state == State::kErased;
  }));
}

TEST_F(ErasureTest, CleansTheLogWhenAnotherProcessStopsReadingIt) {
  auto service = Open();
  KeyCache cache(*service);
  const crypto::KeyId id = SealingKey(*service, cache, User("38"))->id;
  const std::string wrapped = WrappedKeys().at(std::string(AsText(id.bytes)));
  sqlite3* reader = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &reader), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM scopeKeys;", nullptr, nullptr, nullptr), SQLITE_OK);
  auto result = service->Erase("clicks", "38");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->filesClean);
  EXPECT_THAT(std::string(service->health().message()), HasSubstr("log still holds"));
  cache.Refresh();
  EXPECT_EQ(cache.FindById(id).state, State::kErased) << "unreadable at once all the same";
  sqlite3_exec(reader, "COMMIT", nullptr, nullptr, nullptr);
  sqlite3_close(reader);
  EXPECT_TRUE(Eventually([&] { return service->health().ok(); }));
  EXPECT_EQ(AllBytes().find(wrapped), std::string::npos);
}

TEST_F(ErasureTest, LetsLateRecordsBeSealedUnderAKeyThatNobodyKeeps) {
  auto service = Open();
  KeyCache cache(*service);
  const crypto::KeyId before = SealingKey(*service, cache, User("38"))->id;
  ASSERT_TRUE(service->Erase("clicks", "38").ok());
  const CachedKey* key = SealingKey(*service, cache, User("38"));
  ASSERT_NE(key, nullptr);
  EXPECT_TRUE(key->erasedSubject);
  EXPECT_FALSE(key->id == before);
  const crypto::KeyId id = key->id;
  // Erased for the node that sealed under it as for any other, and never unknown.
  EXPECT_EQ(cache.FindById(id).state, State::kErased);
  KeyCache other(*service);
  EXPECT_EQ(StateOf(*service, other, id), State::kErased);
  EXPECT_EQ(WrappedKeys().size(), 0u);
}

TEST_F(ErasureTest, MakesOneThrowAwayKeyAProcessAndCacheLife) {
  auto service = Open();
  KeyCache cache(*service);
  SealingKey(*service, cache, User("38"));
  ASSERT_TRUE(service->Erase("clicks", "38").ok());
  const crypto::KeyId id = SealingKey(*service, cache, User("38"))->id;
  for (int i = 0; i < 5; ++i) {
    KeyCache other(*service);
    EXPECT_EQ(SealingKey(*service, other, User("38"))->id, id);
    Advance(std::chrono::seconds(10));
  }
  Advance(std::chrono::seconds(11));
  EXPECT_FALSE(SealingKey(*service, cache, User("38"))->id == id);
}

}  // namespace
}  // namespace kveil::keys
