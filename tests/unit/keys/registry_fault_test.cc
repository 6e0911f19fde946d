// A registry that is locked, full, corrupt, missing or replaced: kUnavailable in bounded time, said in plain words, and
// well again by itself when the cause is gone.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "key_fixture.h"

namespace kveil::keys {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class RegistryFaultTest : public KeyTest {
 protected:
  static Misses Users(int first, int count) {
    Misses misses;
    for (int i = first; i < first + count; ++i) misses.scopes.emplace_back(User("user-" + std::to_string(i)));
    return misses;
  }
  static Misses Ids(std::vector<crypto::KeyId> ids) {
    Misses misses;
    misses.ids.assign(ids.begin(), ids.end());
    return misses;
  }
  std::string Health(KeyService& service) { return std::string(service.health().message()); }

  // Moves everything out of the log, so that the file alone is the registry.
  void Checkpoint() {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(database, "PRAGMA wal_checkpoint(TRUNCATE)", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }
  void RemoveRegistry() {
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((registryFile() + suffix).c_str());
  }
};

// Ends without a commit.
class HeldLock {
 public:
  explicit HeldLock(const std::string& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &database_), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database_, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  }
  ~HeldLock() { sqlite3_close(database_); }
  void Execute(const char* sql) {
    EXPECT_EQ(sqlite3_exec(database_, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database_);
  }

 private:
  sqlite3* database_ = nullptr;
};

TEST_F(RegistryFaultTest, WhenLockedNewKeysWaitInBoundedTimeAndOldOnesAreStillFound) {
  KeyServiceOptions options = Options();
  options.registryTimeout = std::chrono::milliseconds(300);
  auto service = Open(options);
  const crypto::KeyId id = Ask(*service, Users(0, 1)).scopes.at(0).key.id;
  {
    HeldLock lock(registryFile());
    const auto start = std::chrono::steady_clock::now();
    FetchResult result = Ask(*service, Users(1, 3));
    const auto took = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(result.status.message()), AllOf(HasSubstr(registryFile()), HasSubstr("locked")));
    EXPECT_TRUE(result.scopes.empty());
    EXPECT_GE(took, std::chrono::milliseconds(250));
    EXPECT_LT(took, std::chrono::seconds(3));
    EXPECT_THAT(Health(*service), HasSubstr("locked"));
    EXPECT_EQ(service->Erase(std::nullopt, "user-0").status().code(), absl::StatusCode::kUnavailable);

    FetchResult read = Ask(*service, Users(0, 1));
    EXPECT_TRUE(read.status.ok()) << read.status;
    EXPECT_EQ(read.scopes.at(0).key.id, id);
    EXPECT_EQ(Ask(*service, Ids({id})).ids.at(0).state, FetchResult::IdState::kReady);
    EXPECT_TRUE(TryUnwrap(*service).ok()) << "it only reads";
  }
  EXPECT_TRUE(Ask(*service, Users(1, 3)).status.ok());
  EXPECT_TRUE(Eventually([&] { return service->health().ok(); }));
  EXPECT_EQ(Ask(*service, Ids({id})).ids.at(0).state, FetchResult::IdState::kReady) << "a refused erasure erased";
}

TEST_F(RegistryFaultTest, WhenAnotherProgramMigratesItMeanwhileItsFormatStays) {
  ASSERT_NE(Open(), nullptr);
  HeldLock(registryFile()).Execute("PRAGMA user_version = 1; COMMIT");
  std::optional<HeldLock> later(registryFile());
  later->Execute("PRAGMA user_version = 9");
  std::thread opening([&] { EXPECT_THAT(std::string(OpenError().message()), HasSubstr("has format 9")); });
  // It has looked at the format by then, or looks at it after the commit: neither may take it for an earlier one.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  later->Execute("COMMIT");
  opening.join();
  later.reset();
}

TEST_F(RegistryFaultTest, WhenLockedManyWaitersAreAllAnsweredInTheTimeOfOne) {
  KeyServiceOptions options = Options();
  options.registryTimeout = std::chrono::milliseconds(300);
  auto service = Open(options);
  HeldLock lock(registryFile());
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int> refused{0};
  for (int i = 0; i < 300; ++i) {
    service->Fetch(Users(i, 1), "app.service",
                   [&](FetchResult result) { refused += absl::IsUnavailable(result.status); });
  }
  EXPECT_TRUE(Eventually([&] { return refused == 300; }));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
}

TEST_F(RegistryFaultTest, WhenLockedAtTheStartTheErrorSaysSo) {
  ASSERT_NE(Open(), nullptr);
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  sqlite3_exec(database, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE registry SET probed = 1; COMMIT",
               nullptr, nullptr, nullptr);
  KeyServiceOptions options = Options();
  options.registryTimeout = std::chrono::milliseconds(100);
  absl::Status status = KeyService::Open(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(registryFile()), HasSubstr("locked")));
  sqlite3_close(database);
}

TEST_F(RegistryFaultTest, WhenCorruptNothingIsTakenForUnknownOrErased) {
  auto service = Open();
  FetchResult made = Ask(*service, Users(0, 2000));
  ASSERT_TRUE(made.status.ok());
  std::vector<crypto::KeyId> ids;
  for (const auto& found : made.scopes) ids.push_back(found.key.id);
  service.reset();
  Checkpoint();
  const std::string whole = ReadFile(registryFile());
  std::string damaged = whole;
  // One page in five; not the first ones, which tell what the file is and where its tables begin.
  for (size_t page = 30 * 4096; page + 4096 <= damaged.size(); page += 5 * 4096) {
    damaged.replace(page, 64, std::string(64, 'x'));
  }
  WriteFile(registryFile(), damaged);

  service = Open();
  ASSERT_NE(service, nullptr);
  int damagedKeys = 0;
  std::optional<crypto::KeyId> good;
  std::optional<crypto::KeyId> bad;
  for (size_t i = 0; i < ids.size(); i += 20) {
    FetchResult result = Ask(*service, Ids({ids[i]}));
    ASSERT_TRUE(result.status.ok()) << result.status;
    if (result.ids.at(0).state == FetchResult::IdState::kDamaged) {
      EXPECT_THAT(std::string(result.damage.message()), AllOf(HasSubstr(registryFile()), HasSubstr("corrupt")));
      ++damagedKeys;
      bad = ids[i];
    } else {
      good = ids[i];
      EXPECT_EQ(result.ids.at(0).state, FetchResult::IdState::kReady);
    }
  }
  EXPECT_GT(damagedKeys, 0);
  ASSERT_TRUE(good.has_value() && bad.has_value());

  // Asked in one question, the good one is still found.
  const FetchResult both = Ask(*service, Ids({*bad, *good}));
  EXPECT_EQ(both.ids.at(0).state, FetchResult::IdState::kDamaged);
  EXPECT_EQ(both.ids.at(1).state, FetchResult::IdState::kReady);
  EXPECT_THAT(Health(*service), HasSubstr("corrupt"));

  // Restored as an operator would: another file under the same name.
  WriteFile(folder_ + "/backup", whole);
  RemoveRegistry();
  ASSERT_EQ(rename((folder_ + "/backup").c_str(), registryFile().c_str()), 0);
  EXPECT_TRUE(Eventually([&] { return service->health().ok(); })) << service->health();
  EXPECT_TRUE(Ask(*service, Ids(ids)).status.ok());
}

TEST_F(RegistryFaultTest, WhenOneRowIsDamagedTheOthersAreStillFound) {
  auto service = Open();
  FetchResult made = Ask(*service, Users(0, 3));
  const crypto::KeyId damaged = made.scopes.at(1).key.id;
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  sqlite3_prepare_v2(database, "UPDATE scopeKeys SET bytes = zeroblob(length(bytes)) WHERE keyId = ?1", -1, &statement,
                     nullptr);
  sqlite3_bind_blob(statement, 1, damaged.bytes.data(), 16, SQLITE_STATIC);
  ASSERT_EQ(sqlite3_step(statement), SQLITE_DONE);
  sqlite3_finalize(statement);
  sqlite3_close(database);
  FetchResult result = Ask(*service, Ids({made.scopes[0].key.id, damaged, made.scopes[2].key.id}));
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.ids.at(0).state, FetchResult::IdState::kReady);
  EXPECT_EQ(result.ids.at(1).state, FetchResult::IdState::kDamaged);
  EXPECT_EQ(result.ids.at(2).state, FetchResult::IdState::kReady);
  EXPECT_THAT(Health(*service), HasSubstr("damaged"));
  EXPECT_FALSE(Ask(*service, Users(1, 1)).status.ok());
  EXPECT_TRUE(Ask(*service, Users(2, 1)).status.ok());
}

// Found out before a restart does. What was unwrapped before goes on.
TEST_F(RegistryFaultTest, WhenAnEpochKeyIsDamagedTryUnwrapSaysSo) {
  auto service = Open();
  const crypto::KeyId id = Ask(*service, Users(0, 1)).scopes.at(0).key.id;
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  const auto execute = [database](const char* statement) {
    ASSERT_EQ(sqlite3_exec(database, statement, nullptr, nullptr, nullptr), SQLITE_OK) << statement;
  };
  execute("CREATE TABLE kept AS SELECT wrappedKey FROM epochs");
  execute("UPDATE epochs SET wrappedKey = zeroblob(60)");
  const absl::Status damaged = TryUnwrap(*service);
  EXPECT_TRUE(absl::IsUnavailable(damaged));
  EXPECT_THAT(std::string(damaged.message()), AllOf(HasSubstr(registryFile()), HasSubstr("epoch 1 is damaged")));
  EXPECT_EQ(Ask(*service, Ids({id})).ids.at(0).state, FetchResult::IdState::kReady);
  execute("UPDATE epochs SET wrappedKey = NULL");
  EXPECT_THAT(std::string(TryUnwrap(*service).message()), HasSubstr("it has no epoch key"));
  execute("UPDATE epochs SET wrappedKey = (SELECT wrappedKey FROM kept)");
  EXPECT_TRUE(TryUnwrap(*service).ok()) << TryUnwrap(*service);
  sqlite3_close(database);
}

// A restored registry whose epoch key cannot be unwrapped gives no keys, and destroys them all the same.
TEST_F(RegistryFaultTest, WhenAnEpochKeyIsDamagedUsersCanStillBeErased) {
  auto service = Open();
  const crypto::KeyId id = Ask(*service, Users(0, 1)).scopes.at(0).key.id;
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "UPDATE epochs SET wrappedKey = zeroblob(60)", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  Checkpoint();
  const std::string bytes = ReadFile(registryFile());
  RemoveRegistry();
  WriteFile(registryFile(), bytes);
  FetchResult result = Ask(*service, Ids({id}));
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("epoch 1 is damaged"));
  EXPECT_TRUE(result.ids.empty());
  auto erased = service->Erase(std::nullopt, "user-0");
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_EQ(erased->keyCount, 1u);
  EXPECT_TRUE(erased->filesClean);
  EXPECT_THAT(Health(*service), HasSubstr("epoch 1 is damaged"));
}

// A row that is malformed in another way: its columns do not even have the sizes that they must have.
TEST_F(RegistryFaultTest, WhenARowIsMalformedCachesKeepTheirKeysAndTheOthersAreFound) {
  auto service = Open();
  FetchResult made = Ask(*service, Users(0, 3));
  KeyCache cache(*service);
  const crypto::KeyId known = SealingKey(*service, cache, User("user-0"))->id;
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  sqlite3_prepare_v2(database, "UPDATE scopeKeys SET subject = x'00' WHERE keyId = ?1", -1, &statement, nullptr);
  sqlite3_bind_blob(statement, 1, made.scopes[1].key.id.bytes.data(), 16, SQLITE_STATIC);
  ASSERT_EQ(sqlite3_step(statement), SQLITE_DONE);
  sqlite3_finalize(statement);
  sqlite3_close(database);
  // The registry is opened anew once, in case it was put right in place.
  for (int i = 0; i < 2; ++i) Ask(*service, Ids({made.scopes[1].key.id}));
  SealingKey(*service, cache, User("user-0"));
  for (int i = 0; i < 3; ++i) {
    FetchResult result = Ask(*service, Ids({made.scopes[1].key.id, made.scopes[2].key.id}));
    EXPECT_EQ(result.ids.at(0).state, FetchResult::IdState::kDamaged);
    EXPECT_EQ(result.ids.at(1).state, FetchResult::IdState::kReady);
    cache.Refresh();
    EXPECT_EQ(cache.FindById(known).state, KeyCache::State::kReady) << "the caches were emptied anew each time";
  }
  EXPECT_EQ(StateOf(*service, cache, made.scopes[1].key.id), KeyCache::State::kDamaged);
  EXPECT_THAT(Health(*service), HasSubstr("malformed"));
}

TEST_F(RegistryFaultTest, WhenRowsAreSwappedTheyAreNotTakenForOneAnother) {
  auto service = Open();
  FetchResult made = Ask(*service, Users(0, 2));
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
  // Somebody who can write the registry gives each user the other's key.
  ASSERT_EQ(
      sqlite3_exec(database,
                   "CREATE TEMP TABLE other AS SELECT number, bytes FROM scopeKeys;"
                   "UPDATE scopeKeys SET bytes = (SELECT bytes FROM other WHERE other.number <> scopeKeys.number)",
                   nullptr, nullptr, nullptr),
      SQLITE_OK);
  sqlite3_close(database);
  FetchResult result = Ask(*service, Ids({made.scopes[0].key.id, made.scopes[1].key.id}));
  for (const auto& found : result.ids) EXPECT_EQ(found.state, FetchResult::IdState::kDamaged);
  EXPECT_THAT(Health(*service), HasSubstr("damaged"));
}

TEST_F(RegistryFaultTest, WhenRemovedNoKeyIsMadeThatARestartWouldLose) {
  auto service = Open();
  const crypto::KeyId id = Ask(*service, Users(0, 1)).scopes.at(0).key.id;
  Checkpoint();
  ASSERT_EQ(rename(registryFile().c_str(), (folder_ + "/away").c_str()), 0);
  FetchResult result = Ask(*service, Users(1, 1));
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status.message()), AllOf(HasSubstr(registryFile()), HasSubstr("missing")));
  EXPECT_FALSE(std::filesystem::exists(registryFile())) << "a new registry was made in silence";
  EXPECT_THAT(Health(*service), HasSubstr("missing"));
  ASSERT_EQ(rename((folder_ + "/away").c_str(), registryFile().c_str()), 0);
  EXPECT_TRUE(Eventually([&] { return service->health().ok(); })) << service->health();
  EXPECT_EQ(Ask(*service, Users(0, 1)).scopes.at(0).key.id, id);
}

TEST_F(RegistryFaultTest, WhenItIsLostAtTheStartNoNewOneIsMadeBesideItsRootKey) {
  Open().reset();
  RemoveRegistry();
  const auto service = KeyService::Open(Options());
  EXPECT_EQ(service.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(service.status().message()), HasSubstr("restore the registry"));
  EXPECT_NE(access(registryFile().c_str(), F_OK), 0) << "an empty registry was made";
}

TEST_F(RegistryFaultTest, WhenReplacedByAnotherRegistryItIsNotUsed) {
  auto service = Open();
  const crypto::KeyId id = Ask(*service, Users(0, 1)).scopes.at(0).key.id;
  KeyServiceOptions other = Options();
  other.registry.sqlite = folder_ + "/other.db";
  std::ofstream(other.registry.sqlite).close();  // there, so not one that was lost
  ASSERT_EQ(chmod(other.registry.sqlite.c_str(), 0600), 0);
  Open(other).reset();
  RemoveRegistry();
  ASSERT_EQ(rename(other.registry.sqlite.c_str(), registryFile().c_str()), 0);
  ASSERT_EQ(rename((other.registry.sqlite + "-wal").c_str(), (registryFile() + "-wal").c_str()), 0);
  FetchResult result = Ask(*service, Ids({id}));
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("replaced"));
  EXPECT_TRUE(result.ids.empty()) << "a key of the old registry was taken for unknown";
}

TEST_F(RegistryFaultTest, WhenTheDiskIsFullNothingIsGivenOutThatIsNotOnDisk) {
  // A small file system of its own, seen by this process only.
  ASSERT_EQ(unshare(CLONE_NEWNS), 0) << "needs root: " << strerror(errno);
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  ASSERT_EQ(mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=1m"), 0) << strerror(errno);
  {
    auto service = Open();
    ASSERT_NE(service, nullptr);
    const crypto::KeyId id = Ask(*service, Users(0, 1)).scopes.at(0).key.id;
    const std::string filler = folder_ + "/filler";
    const int fd = open(filler.c_str(), O_WRONLY | O_CREAT, 0600);
    const std::string block(4096, 'f');
    while (write(fd, block.data(), block.size()) > 0) {
    }
    close(fd);
    FetchResult result = Ask(*service, Users(1, 500));
    EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(result.status.message()), AllOf(HasSubstr(registryFile()), HasSubstr("full")));
    EXPECT_TRUE(result.scopes.empty());
    EXPECT_THAT(Health(*service), HasSubstr("full"));
    EXPECT_EQ(Ask(*service, Ids({id})).ids.at(0).state, FetchResult::IdState::kReady);
    EXPECT_TRUE(TryUnwrap(*service).ok()) << "it only reads";
    unlink(filler.c_str());
    EXPECT_TRUE(Eventually([&] { return service->health().ok(); })) << service->health();
    EXPECT_TRUE(Ask(*service, Users(1, 500)).status.ok());
  }
  EXPECT_EQ(umount(folder_.c_str()), 0) << strerror(errno);
}

}  // namespace
}  // namespace kveil::keys
