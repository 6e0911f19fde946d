// Keys that survive restarts, are made once for everybody, and are given out only while the root key is safe.
#include "keys/service/key_service.h"

#include <gmock/gmock.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "key_fixture.h"
#include "keys/cache/key_cache.h"

namespace kveil::keys {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class KeyServiceTest : public KeyTest {
 protected:
  static Misses Users(int first, int count) {
    Misses misses;
    for (int i = first; i < first + count; ++i) misses.scopes.emplace_back(User("user-" + std::to_string(i)));
    return misses;
  }
};

TEST_F(KeyServiceTest, MakesKeyFileAndRegistryOnTheFirstStart) {
  ASSERT_NE(Open(), nullptr);
  for (const std::string& path : {keyFile(), registryFile()}) {
    struct stat info;
    ASSERT_EQ(stat(path.c_str(), &info), 0) << path;
    EXPECT_EQ(info.st_mode & 07777, 0600u) << path;
  }
}

TEST_F(KeyServiceTest, GivesTheSameKeyAfterARestart) {
  crypto::KeyId id;
  crypto::SecretKey key;
  {
    auto service = Open();
    KeyCache cache(*service);
    const CachedKey* found = SealingKey(*service, cache, User("38"));
    id = found->id;
    key = found->key.Copy();
  }
  auto service = Open();
  KeyCache cache(*service);
  EXPECT_EQ(SealingKey(*service, cache, User("38"))->id, id);
  KeyCache other(*service);
  ASSERT_EQ(StateOf(*service, other, id), KeyCache::State::kReady);
  EXPECT_TRUE(other.FindById(id).key->key.Equals(key));
}

TEST_F(KeyServiceTest, KeepsNoUserIdAndNoClearKeyInTheFiles) {
  auto service = Open();
  KeyCache cache(*service);
  const std::string user = "somebody@example.com";
  const CachedKey* key = SealingKey(*service, cache, User(user));
  const std::string bytes = ReadFile(registryFile()) + ReadFile(registryFile() + "-wal");
  EXPECT_EQ(bytes.find(user), std::string::npos);
  EXPECT_EQ(bytes.find(AsText(key->key.bytes())), std::string::npos);
  EXPECT_NE(bytes.find(AsText(key->id.bytes)), std::string::npos) << "the search itself does not work";
}

TEST_F(KeyServiceTest, NeverMakesANewRootKeyBesideARegistryWithKeys) {
  ASSERT_NE(Open(), nullptr);
  ASSERT_EQ(unlink(keyFile().c_str()), 0);
  absl::Status status = OpenError();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(keyFile()), HasSubstr("missing"), HasSubstr(registryFile())));
  EXPECT_FALSE(std::filesystem::exists(keyFile()));
}

TEST_F(KeyServiceTest, RefusesARootKeyThatIsDamagedOpenToOthersOrOfAnotherRegistry) {
  ASSERT_NE(Open(), nullptr);
  const std::string whole = ReadFile(keyFile());
  WriteFile(keyFile(), whole.substr(0, 50));
  EXPECT_THAT(std::string(OpenError().message()), AllOf(HasSubstr(keyFile()), HasSubstr("damaged")));
  WriteFile(keyFile(), whole);
  chmod(keyFile().c_str(), 0644);
  EXPECT_THAT(std::string(OpenError().message()), HasSubstr("600"));
  chmod(keyFile().c_str(), 0600);
  ASSERT_NE(Open(), nullptr);

  KeyServiceOptions other = Options();
  other.root.file = folder_ + "/other.key";
  other.registry.sqlite = folder_ + "/other.db";
  ASSERT_NE(Open(other), nullptr);
  other.registry.sqlite = registryFile();
  absl::Status status = KeyService::Open(other).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("other.key"), HasSubstr("does not fit")));
}

TEST_F(KeyServiceTest, RefusesADatabaseOfSomethingElseAndALaterFormat) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "CREATE TABLE other (x)", nullptr, nullptr, nullptr);
  sqlite3_close(database);
  EXPECT_THAT(std::string(OpenError().message()), HasSubstr("something else"));
  EXPECT_FALSE(std::filesystem::exists(keyFile()));
  unlink(registryFile().c_str());
  ASSERT_NE(Open(), nullptr);
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "PRAGMA user_version = 99", nullptr, nullptr, nullptr);
  sqlite3_close(database);
  EXPECT_THAT(std::string(OpenError().message()), HasSubstr("format 99"));
}

TEST_F(KeyServiceTest, ClosesARegistryThatIsOpenToOthers) {
  ASSERT_NE(Open(), nullptr);
  chmod(registryFile().c_str(), 0666);
  ASSERT_NE(Open(), nullptr);
  struct stat info;
  ASSERT_EQ(stat(registryFile().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
}

TEST_F(KeyServiceTest, MakesAKeyOnceForAllThreadsAndProcesses) {
  // Two services on one file stand for two processes: each has its own connection.
  auto one = Open();
  auto other = Open();
  std::vector<FetchResult> results(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = Ask(i % 2 == 0 ? *one : *other, Users(0, 200)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const FetchResult& result : results) {
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_EQ(result.scopes.size(), 200u);
    std::map<std::string, crypto::KeyId> ids;
    for (const auto& found : result.scopes) ids[found.name.subject] = found.key.id;
    for (const auto& found : results[0].scopes) ASSERT_EQ(ids[found.name.subject], found.key.id);
  }
}

TEST_F(KeyServiceTest, MakesTheRootKeyOnceForServicesThatStartTogether) {
  std::vector<std::unique_ptr<KeyService>> services(6);
  std::vector<std::thread> threads;
  for (auto& service : services) threads.emplace_back([&] { service = Open(); });
  for (std::thread& thread : threads) thread.join();
  crypto::KeyId id = Ask(*services[0], Users(0, 1)).scopes.at(0).key.id;
  for (auto& service : services) {
    ASSERT_NE(service, nullptr);
    EXPECT_EQ(Ask(*service, Users(0, 1)).scopes.at(0).key.id, id);
  }
}

TEST_F(KeyServiceTest, GivesTheSameKeyTwiceWhenAskedTwiceInOneFetch) {
  auto service = Open();
  Misses misses = Users(0, 1);
  misses.scopes.push_back(misses.scopes[0]);
  FetchResult result = Ask(*service, std::move(misses));
  ASSERT_EQ(result.scopes.size(), 2u);
  EXPECT_EQ(result.scopes[0].key.id, result.scopes[1].key.id);
}

TEST_F(KeyServiceTest, AnswersEveryFetchBeforeItEnds) {
  int answers = 0;  // counted on the service's one thread, read after it ended
  auto service = Open();
  for (int i = 0; i < 200; ++i)
    service->Fetch(Users(i, 2), "app.service",
                   [&answers](FetchResult result) { answers += result.status.ok() && result.scopes.size() == 2; });
  service.reset();
  EXPECT_EQ(answers, 200);
}

TEST_F(KeyServiceTest, SealsNothingNewWhileTheRootKeyFileIsGoneButStillOpens) {
  auto service = Open();
  KeyCache cache(*service);
  const crypto::KeyId id = SealingKey(*service, cache, User("38"))->id;
  const std::string whole = ReadFile(keyFile());
  unlink(keyFile().c_str());
  ASSERT_TRUE(Eventually([&] { return !service->health().ok(); }));
  EXPECT_THAT(std::string(service->health().message()), AllOf(HasSubstr(keyFile()), HasSubstr("missing")));
  FetchResult result = Ask(*service, Users(0, 1));
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(result.scopes.empty());
  KeyCache reader(*service);
  EXPECT_EQ(StateOf(*service, reader, id), KeyCache::State::kReady);

  WriteFile(keyFile(), std::string(whole).replace(20, 4, "0000"));
  chmod(keyFile().c_str(), 0600);
  ASSERT_TRUE(Eventually([&] { return service->health().message().find("damaged") != std::string::npos; }));

  WriteFile(keyFile(), whole);
  ASSERT_TRUE(Eventually([&] { return service->health().ok(); }));
  EXPECT_TRUE(Ask(*service, Users(0, 1)).status.ok());
}

TEST_F(KeyServiceTest, TriesWhetherItCanUnwrap) {
  auto service = Open();
  EXPECT_TRUE(TryUnwrap(*service).ok()) << "of an empty registry";
  EXPECT_TRUE(TryUnwrap(*service).ok()) << "again";
  const std::string own = ReadFile(keyFile());
  {
    std::filesystem::rename(keyFile(), folder_ + "/own.key");
    KeyServiceOptions another = Options();
    another.registry.sqlite = folder_ + "/another.db";
    Open(another).reset();
  }
  const absl::Status swapped = TryUnwrap(*service);
  EXPECT_TRUE(absl::IsUnavailable(swapped));
  EXPECT_THAT(std::string(swapped.message()), AllOf(HasSubstr(keyFile()), HasSubstr("another key")));
  WriteFile(keyFile(), std::string(own).replace(20, 4, "0000"));
  EXPECT_THAT(std::string(TryUnwrap(*service).message()), AllOf(HasSubstr(keyFile()), HasSubstr("damaged")));
  unlink(keyFile().c_str());
  EXPECT_THAT(std::string(TryUnwrap(*service).message()), AllOf(HasSubstr(keyFile()), HasSubstr("missing")));
  std::filesystem::rename(folder_ + "/own.key", keyFile());
  EXPECT_TRUE(TryUnwrap(*service).ok()) << TryUnwrap(*service);
}

TEST_F(KeyServiceTest, RefusesACacheTimeBelowASecond) {
  KeyServiceOptions options = Options();
  options.cacheTtl = std::chrono::milliseconds(999);
  EXPECT_EQ(KeyService::Open(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kveil::keys
