// A registry moves from its file to PostgreSQL: all of it, whenever it is interrupted, and never to two places.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <set>
#include <utility>

#include "base/text.h"
#include "key_fixture.h"
#include "keys/registry/copied_tables.h"
#include "keys/registry/moved_note.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry_copy.h"
#include "keys/registry/sqlite.h"
#include "postgres_server.h"

namespace kveil::keys {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

class RegistryCopyTest : public KeyTest {
 protected:
  RegistryCopyTest() { wallMillis_ = absl::ToUnixMillis(absl::Now()); }

  KeyServiceOptions TargetOptions() {
    KeyServiceOptions options = Options();
    options.registry = {.sqlite = "", .postgres = to()};
    return options;
  }
  PostgresOptions to() { return *PostgresServer::Running().OptionsFor(folder_).postgres; }
  PostgresServer::Client Client() { return PostgresServer::Running().ClientOf(folder_); }
  std::string Get(const std::string& sql) {
    const std::vector<std::string> rows = Client().Query(sql);
    return rows.empty() ? "" : rows.front();
  }
  RegistryCopyOptions CopyOptions() { return {.from = registryFile(), .to = to()}; }
  // Ended at the nth of its chances.
  RegistryCopyOptions EndedAfter(int chances) {
    RegistryCopyOptions options = CopyOptions();
    options.mostRows = 10;
    options.mustEnd = [chances]() mutable { return chances-- == 0; };
    return options;
  }
  // In the file, as it is now.
  std::string GetFromFile(const std::string& sql) {
    auto database = Database::Open(registryFile());
    auto statement = (*database)->Prepare(sql.c_str());
    EXPECT_TRUE(statement.ok()) << statement.status();
    return statement.ok() && *statement->Step() ? std::string(statement->TextAt(0)) : "";
  }
  void ChangeFile(const std::string& sql) {
    auto database = Database::Open(registryFile());
    const absl::Status changed = (*database)->Execute(sql.c_str());
    EXPECT_TRUE(changed.ok()) << changed;
  }
  // Ends the copy when the file says that the target may be in use.
  void CopyUntilHandingOver() {
    for (int chances = 0; chances < 100; ++chances) {
      ASSERT_TRUE(absl::IsCancelled(CopyRegistry(EndedAfter(chances)).status()));
      if (GetFromFile("SELECT CAST(state AS TEXT) FROM moved") == "2") return;
    }
    FAIL();
  }
  // As somebody does who puts a backup in the place of the file.
  std::string BackUp() {
    std::string backup = folder_ + "/backup";
    auto database = Database::Open(registryFile());
    EXPECT_TRUE((*database)->QueryInteger("PRAGMA wal_checkpoint(TRUNCATE)").ok());
    std::filesystem::copy_file(registryFile(), backup);
    return backup;
  }
  void RemoveFile() {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(registryFile() + suffix);
  }
  void Restore(const std::string& backup) {
    RemoveFile();
    std::filesystem::copy_file(backup, registryFile());
  }
  static void ExpectNoted(const absl::Status& refused) {
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(ErrorOf(refused), HasSubstr(".moved says so"));
    EXPECT_THAT(ErrorOf(refused), HasSubstr("was moved to registry postgresql://"));
  }
  std::string note() const { return registryFile() + ".moved"; }
  static std::string ErrorOf(const absl::Status& status) { return std::string(status.message()); }

  // Users 1 to `count`, of whom user 1 is erased, a user of another keyspace, and a topic.
  void Fill(int count) {
    auto service = Open();
    ASSERT_NE(service, nullptr);
    Misses one;
    one.scopes.emplace_back(User("1"));
    erased_ = Ask(*service, std::move(one)).scopes.at(0).key.id;
    Misses misses;
    for (int user = 2; user <= count; ++user) misses.scopes.emplace_back(User(std::to_string(user)));
    misses.scopes.emplace_back(User("2", "orders"));
    misses.scopes.emplace_back(Topic("invoices"));
    FetchResult result = Ask(*service, std::move(misses));
    ASSERT_TRUE(result.status.ok()) << result.status;
    for (FetchResult::ByScope& found : result.scopes) ids_.push_back(found.key.id);
    ASSERT_TRUE(service->Erase("clicks", "1").ok());
  }
  // The service has the keys that Fill has made, and not the one that it has erased.
  void ExpectSameKeys(KeyService& service) {
    Misses one, misses;
    one.ids.push_back(erased_);
    EXPECT_EQ(Ask(service, std::move(one)).ids.at(0).state, FetchResult::IdState::kErased);
    for (const crypto::KeyId& id : ids_) misses.ids.push_back(id);
    std::vector<crypto::KeyId> found;
    for (FetchResult::ById& key : Ask(service, std::move(misses)).ids) {
      EXPECT_EQ(key.state, FetchResult::IdState::kReady);
      found.push_back(crypto::ComputeKeyId(key.key.key));
    }
    EXPECT_THAT(found, UnorderedElementsAreArray(ids_));
  }

  crypto::KeyId erased_;
  std::vector<crypto::KeyId> ids_;
};

TEST_F(RegistryCopyTest, TakesAlongEveryKeyAndEveryErasure) {
  Fill(30);
  std::vector<uint64_t> done;
  RegistryCopyOptions options = CopyOptions();
  options.progress = [&done](uint64_t rows, uint64_t all) {
    EXPECT_LE(rows, all);
    done.push_back(rows);
  };
  const absl::StatusOr<RegistryCopied> copied = CopyRegistry(options);
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), copied->rows);
  // Versions that take keys of 32 bytes for damage know format 7 at most.
  EXPECT_EQ(Get("SELECT version FROM kveil.format"), "8");
  EXPECT_EQ(Get("SELECT min(length(wrapped_key)) FROM kveil.scope_keys"), "32");
  auto service = Open(TargetOptions());
  ASSERT_NE(service, nullptr);
  ExpectSameKeys(*service);
  // Erased stays erased, and the next erasure has the next number.
  EXPECT_TRUE(ErasedBefore(service->Erase("clicks", "1").status()).has_value());
  ASSERT_TRUE(service->Erase("clicks", "3").ok());
  EXPECT_EQ(Get("SELECT string_agg(number::text, ' ' ORDER BY number) FROM kveil.erasures"), "1 2");
  EXPECT_EQ(Get("SELECT string_agg(encode(name, 'escape'), ' ' ORDER BY name) FROM kveil.keyspaces"), "clicks orders");
}

TEST_F(RegistryCopyTest, TheFileIsOfNoUseAfterwards) {
  Fill(3);
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  const absl::Status refused = OpenError();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("was moved to registry postgresql://"));
  const absl::StatusOr<RegistryCopied> again = CopyRegistry(CopyOptions());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(again->wasMoved);
  EXPECT_TRUE(absl::IsFailedPrecondition(GiveUpCopy(registryFile())));
}

TEST_F(RegistryCopyTest, ABackupOfTheFileIsOfNoUseEither) {
  Fill(3);
  const std::string backup = BackUp();
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  RemoveFile();
  ExpectNoted(OpenError());  // beside its root key
  ExpectNoted(CopyRegistry(CopyOptions()).status());
  std::filesystem::remove(keyFile());
  ExpectNoted(OpenError());
  EXPECT_FALSE(std::filesystem::exists(registryFile()));  // no new one is made
  Restore(backup);
  ExpectNoted(OpenError());
  ExpectNoted(CopyRegistry(CopyOptions()).status());
}

TEST_F(RegistryCopyTest, WhoeverMeansABackupTakesTheNoteAway) {
  Fill(3);
  const std::string backup = BackUp();
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  Restore(backup);
  std::filesystem::remove(note());
  EXPECT_NE(Open(), nullptr);
}

// It says that it is being moved, which was true then.
TEST_F(RegistryCopyTest, ABackupFromTheMiddleOfTheMoveIsOfNoUseEither) {
  Fill(3);
  ASSERT_TRUE(absl::IsCancelled(CopyRegistry(EndedAfter(2)).status()));
  const std::string backup = BackUp();
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  Restore(backup);
  ExpectNoted(GiveUpCopy(registryFile()));
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
  Client().Query("DROP SCHEMA kveil CASCADE");  // made anew, as after a loss
  ExpectNoted(CopyRegistry(CopyOptions()).status());
}

TEST_F(RegistryCopyTest, ANoteThatIsMissingIsMadeByTheNextCall) {
  Fill(3);
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  ExpectNoted(RefuseIfMoved(registryFile()));
  std::filesystem::remove(note());
  ASSERT_TRUE(CopyRegistry(CopyOptions())->wasMoved);
  ExpectNoted(RefuseIfMoved(registryFile()));
  // As a version did that made none, and was killed before the end.
  ChangeFile("UPDATE moved SET state = 2");
  std::filesystem::remove(note());
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  ExpectNoted(RefuseIfMoved(registryFile()));
}

TEST_F(RegistryCopyTest, ANoteThatCannotBeLookedForIsNotMissing) {
  EXPECT_TRUE(RefuseIfMoved(folder_ + "/no folder/registry.db").ok());
  EXPECT_TRUE(absl::IsUnavailable(RefuseIfMoved(folder_ + "/" + std::string(300, 'x'))));
}

// Whatever is interrupted after the mark: neither is used, and the next call completes it.
TEST_F(RegistryCopyTest, GoesOnWhereItWasInterrupted) {
  Fill(25);
  int ended = 0;
  for (int chances = 0;; ++chances) {
    const absl::StatusOr<RegistryCopied> copied = CopyRegistry(EndedAfter(chances));
    if (copied.ok()) break;
    ASSERT_TRUE(absl::IsCancelled(copied.status())) << copied.status();
    ++ended;
    EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
    if (Get("SELECT version FROM kveil.format") == "0") {
      const absl::Status refused = KeyService::Open(TargetOptions()).status();
      EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
      EXPECT_THAT(ErrorOf(refused), HasSubstr("not whole yet"));
    }
    ASSERT_LT(ended, 100);
  }
  EXPECT_GE(ended, 8);
  auto service = Open(TargetOptions());
  ASSERT_NE(service, nullptr);
  ExpectSameKeys(*service);
}

TEST_F(RegistryCopyTest, IsRefusedWhileAnAgentHasTheFileOpen) {
  Fill(1);
  auto service = Open();
  ASSERT_NE(service, nullptr);
  const absl::Status refused = CopyRegistry(CopyOptions()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("stop the agent first"));
  Misses misses;
  misses.scopes.emplace_back(User("new"));
  EXPECT_TRUE(Ask(*service, std::move(misses)).status.ok());  // and goes on
  EXPECT_EQ(Get("SELECT to_regnamespace('kveil') IS NULL"), "t");
}

TEST_F(RegistryCopyTest, GivenUpTheFileIsUsedAgainAndTheCopyNever) {
  Fill(3);
  ASSERT_TRUE(absl::IsCancelled(CopyRegistry(EndedAfter(2)).status()));
  ASSERT_TRUE(GiveUpCopy(registryFile()).ok());
  {
    auto service = Open();
    ASSERT_NE(service, nullptr);
    ASSERT_TRUE(service->Erase("clicks", "2").ok());  // whose key may be in what was copied
  }
  const absl::Status refused = CopyRegistry(CopyOptions()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("DROP SCHEMA kveil CASCADE"));
  EXPECT_NE(Open(), nullptr);  // a refusal changes nothing
  Client().Query("DROP SCHEMA kveil CASCADE");
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  EXPECT_EQ(Get("SELECT count(*) FROM kveil.erasures"), "2");
}

TEST_F(RegistryCopyTest, LeavesARegistryAloneThatIsThere) {
  Fill(1);
  KeyServiceOptions options = TargetOptions();
  options.root.file = folder_ + "/other.key";
  ASSERT_NE(Open(std::move(options)), nullptr);
  const absl::Status refused = CopyRegistry(CopyOptions()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("holds a registry already"));
  EXPECT_NE(Open(), nullptr);
}

// The target may have been used, and users erased there: no copy of before may come back.
TEST_F(RegistryCopyTest, IsNotMadeAgainOnceTheTargetMayHaveBeenUsed) {
  Fill(1);
  int chances = 0;
  while (Get("SELECT coalesce((SELECT 'made' FROM pg_class WHERE relname = 'format' AND relnamespace ="
             " to_regnamespace('kveil')), '')") != "made" ||
         Get("SELECT version FROM kveil.format") == "0") {
    ASSERT_TRUE(absl::IsCancelled(CopyRegistry(EndedAfter(chances++)).status()));
    ASSERT_LT(chances, 100);
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(GiveUpCopy(registryFile())));
  Client().Query("DROP SCHEMA kveil CASCADE");
  const absl::Status refused = CopyRegistry(CopyOptions()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("restore its backup"));
}

// One that was killed may leave the server at work on its last rows.
TEST_F(RegistryCopyTest, WaitsForTheOneBefore) {
  Fill(1);
  auto other = Client();
  other.Query("SELECT pg_advisory_lock(461547858286)");
  auto copying = std::async(std::launch::async, [this] { return CopyRegistry(CopyOptions()).status(); });
  const auto isWaiting = [this] {
    return Get("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "1";
  };
  for (int i = 0; i < 1000 && !isWaiting(); ++i) usleep(5'000);
  EXPECT_TRUE(isWaiting());
  EXPECT_EQ(Get("SELECT to_regnamespace('kveil') IS NULL"), "t");
  other.Query("SELECT pg_advisory_unlock(461547858286)");
  EXPECT_TRUE(copying.get().ok());
}

// As a standby does that takes over without the last transaction.
TEST_F(RegistryCopyTest, IsCompletedWhereTheTargetHasLostItsEnd) {
  Fill(3);
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  Client().Query("CREATE TABLE kveil.copy (one boolean PRIMARY KEY, token bytea NOT NULL, format bigint NOT NULL)");
  Client().Query(StrCat("INSERT INTO kveil.copy SELECT true, decode('", GetFromFile("SELECT hex(token) FROM moved"),
                        "', 'hex'), version FROM kveil.format"));
  Client().Query("DELETE FROM kveil.registry");
  Client().Query("UPDATE kveil.format SET version = 0");
  EXPECT_TRUE(absl::IsFailedPrecondition(KeyService::Open(TargetOptions()).status()));
  const absl::StatusOr<RegistryCopied> copied = CopyRegistry(CopyOptions());
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_FALSE(copied->wasMoved);
  auto service = Open(TargetOptions());
  ASSERT_NE(service, nullptr);
  ExpectSameKeys(*service);
  Client().Query("DROP SCHEMA kveil CASCADE");
  EXPECT_THAT(ErrorOf(CopyRegistry(CopyOptions()).status()), HasSubstr("restore its backup"));
}

// A standby that has taken over has another name.
TEST_F(RegistryCopyTest, IsCompletedUnderAnotherNameOfTheServer) {
  Fill(3);
  CopyUntilHandingOver();
  RegistryCopyOptions options = CopyOptions();
  options.to = *PostgresServer::Running().TlsOptionsFor(folder_).postgres;
  const absl::StatusOr<RegistryCopied> copied = CopyRegistry(options);
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_THAT(ErrorOf(OpenError()), HasSubstr(copied->to));
  auto service = Open(TargetOptions());
  ASSERT_NE(service, nullptr);
  ExpectSameKeys(*service);
}

TEST_F(RegistryCopyTest, GoesToNoSecondTarget) {
  Fill(3);
  ASSERT_TRUE(absl::IsCancelled(CopyRegistry(EndedAfter(1)).status()));
  RegistryCopyOptions options = CopyOptions();
  options.to = *PostgresServer::Running().OptionsFor(folder_ + " second").postgres;
  const absl::Status refused = CopyRegistry(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("name that one, or give it up"));
}

TEST_F(RegistryCopyTest, IsOnDiskAlsoWhereTheServerDoesNotWaitForIt) {
  Fill(3);
  Client().Query(
      StrCat("ALTER DATABASE ", PostgresServer::Running().DatabaseOf(folder_), " SET synchronous_commit = off"));
  RegistryCopyOptions options = CopyOptions();
  options.mustEnd = [this, isFirst = true]() mutable {
    if (!std::exchange(isFirst, false)) return false;
    Client().Query("CREATE TABLE public.seen (setting text)");
    Client().Query(
        "CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES"
        " (current_setting('synchronous_commit')); RETURN NULL; END $$");
    Client().Query(
        "CREATE TRIGGER see AFTER INSERT ON kveil.scope_keys FOR EACH STATEMENT EXECUTE FUNCTION public.see()");
    return false;
  };
  ASSERT_TRUE(CopyRegistry(options).ok());
  EXPECT_EQ(Get("SELECT string_agg(DISTINCT setting, ' ') FROM public.seen"), "on");
}

// Its tables may be others than those that this version copies.
TEST_F(RegistryCopyTest, IsNotGoneOnWithByAnotherVersion) {
  Fill(3);
  ASSERT_TRUE(absl::IsCancelled(CopyRegistry(EndedAfter(2)).status()));
  const auto expectRefused = [this](const char* what) {
    const absl::Status refused = CopyRegistry(CopyOptions()).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(ErrorOf(refused), HasSubstr(what));
  };
  Client().Query("UPDATE kveil.copy SET format = format - 1");
  expectRefused("by another version of kveil: finish it by that one, or give it up");
  Client().Query("UPDATE kveil.copy SET format = format + 1");
  ChangeFile("UPDATE moved SET format = format - 1");
  expectRefused("by another version of kveil: finish it by that one, or give it up");
  ChangeFile("UPDATE moved SET format = format + 1");
  CopyUntilHandingOver();
  ChangeFile("UPDATE moved SET format = format - 1");
  expectRefused("by another version of kveil: finish it by that one");
  ChangeFile("UPDATE moved SET format = format + 1");
  EXPECT_TRUE(CopyRegistry(CopyOptions()).ok());
}

// An agent of an earlier version that uses the file could not open it again.
TEST_F(RegistryCopyTest, LeavesAFileOfAnEarlierVersionAloneWhileItIsInUse) {
  Fill(1);
  const std::string format = GetFromFile("SELECT CAST(user_version - 1 AS TEXT) FROM pragma_user_version");
  ChangeFile(StrCat("PRAGMA user_version = ", format));
  {
    auto agent = Database::Open(registryFile());
    ASSERT_TRUE((*agent)->QueryInteger("SELECT count(*) FROM scopeKeys").ok());
    EXPECT_THAT(ErrorOf(CopyRegistry(CopyOptions()).status()), HasSubstr("stop the agent first"));
  }
  EXPECT_EQ(GetFromFile("SELECT CAST(user_version AS TEXT) FROM pragma_user_version"), format);
  EXPECT_TRUE(CopyRegistry(CopyOptions()).ok());
}

TEST_F(RegistryCopyTest, BeginsWithNoFileThatMayBeOneOfSeveral) {
  Fill(1);
  RegistryCopyOptions options = CopyOptions();
  options.mustBeBegun = true;
  const absl::Status refused = CopyRegistry(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(ErrorOf(refused), HasSubstr("a backup must not move"));
  EXPECT_NE(Open(), nullptr);
  CopyUntilHandingOver();
  EXPECT_TRUE(CopyRegistry(options).ok());
}

TEST_F(RegistryCopyTest, KeepsTheAgesOfEpochsAndOfConsents) {
  Fill(1);
  {
    auto database = Database::Open(registryFile());
    ASSERT_TRUE(database.ok());
    const int64_t hourAgo = absl::ToUnixMillis(absl::Now() - absl::Hours(1));
    ASSERT_TRUE(
        (*database)
            ->Execute(StrCat("UPDATE epochs SET created = ", hourAgo, "; INSERT INTO epochs VALUES (7, NULL, ", hourAgo,
                             ", ", hourAgo,
                             "); INSERT INTO sources VALUES ('clicks', 3, x'01', 'node', 0, 2, x'0405', ", hourAgo,
                             ", 60000); INSERT INTO sources VALUES ('new', 1, x'', '', 0, 0, x'', "
                             "NULL, 0)")
                          .c_str())
            .ok());
  }
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  auto registry =
      OpenRegistry({.sqlite = "", .postgres = to()}, true, std::chrono::steady_clock::now() + std::chrono::seconds(20));
  ASSERT_TRUE(registry.ok()) << registry.status();
  (*registry)->SetDeadline(std::chrono::steady_clock::now() + std::chrono::seconds(20));
  const auto epochs = (*registry)->ReadEpochs(/*withDestroyed=*/true);
  ASSERT_TRUE(epochs.ok());
  ASSERT_EQ(epochs->size(), 2u);
  EXPECT_NEAR(absl::ToDoubleMinutes(absl::FromChrono(epochs->at(0).age)), 60, 5);
  EXPECT_EQ(epochs->at(1).number, 7);
  EXPECT_TRUE(epochs->at(1).wrappedKey.empty());
  const auto sources = (*registry)->ReadSources(/*withStates=*/true);
  ASSERT_TRUE(sources.ok());
  ASSERT_EQ(sources->size(), 2u);
  EXPECT_EQ(sources->at(0).state, "\x04\x05");
  EXPECT_EQ(sources->at(0).term, 3);
  ASSERT_TRUE(sources->at(0).age.has_value());
  EXPECT_NEAR(absl::ToDoubleMinutes(absl::FromChrono(*sources->at(0).age)), 60, 5);
  EXPECT_FALSE(sources->at(1).age.has_value());
}

TEST_F(RegistryCopyTest, TakesAlongWhatKeksHaveWrapped) {
  Fill(1);
  const Registry::Deadline soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const Registry::KekKey key{{{1, 2}}, {"payments", "kafka-orders"}, 7, ByteBuffer(90, 3)};
  {
    auto registry = OpenRegistry({.sqlite = registryFile()}, true, soon);
    ASSERT_TRUE(registry.ok()) << registry.status();
    (*registry)->SetDeadline(soon);
    ASSERT_TRUE((*registry)->InsertOrGetKekKey(key, absl::Now()).ok());
  }
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  auto registry = OpenRegistry({.sqlite = "", .postgres = to()}, true, soon);
  ASSERT_TRUE(registry.ok()) << registry.status();
  (*registry)->SetDeadline(soon);
  const auto found = (*registry)->FindKekKey(key.name, key.window);
  ASSERT_TRUE(found.ok() && found->has_value()) << found.status();
  EXPECT_EQ((*found)->id, key.id);
  EXPECT_EQ((*found)->wrappedKey, key.wrappedKey);
}

// Whoever adds a table or a column to the registries has to say what becomes of it in a copy.
TEST_F(RegistryCopyTest, KnowsEveryTableAndColumnOfBoth) {
  std::set<std::string> from, to;
  for (const CopiedTable& table : CopiedTables()) {
    for (const CopiedColumn& column : table.columns) {
      if (std::string_view(table.source) != "keyRows") from.insert(StrCat(table.source, ".", column.from));
      to.insert(StrCat(table.name, ".", column.to));
    }
  }
  // The registry's own row comes last; keyRows is a view of scopeKeys.
  for (const char* other :
       {"registry.one", "registry.registryId", "registry.wrappedSecret", "registry.created", "registry.probed",
        "scopeKeys.number", "scopeKeys.keyId", "scopeKeys.subject", "scopeKeys.scopeAndWindow", "scopeKeys.minute",
        "scopeKeys.epochAndState", "scopeKeys.bytes"}) {
    from.insert(other);
  }
  for (const char* other : {"registry.one", "registry.registry_id", "registry.wrapped_secret", "registry.created",
                            "format.one", "format.application", "format.version", "format.probed"}) {
    to.insert(other);
  }
  Fill(1);
  ASSERT_TRUE(CopyRegistry(CopyOptions()).ok());
  std::set<std::string> inPostgres;
  for (const std::string& column :
       Client().Query("SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema ="
                      " 'kveil' AND table_name <> 'agents'")) {
    inPostgres.insert(column);
  }
  EXPECT_EQ(to, inPostgres);
  std::set<std::string> inFile;
  auto database = Database::Open(registryFile());
  ASSERT_TRUE(database.ok());
  auto columns = (*database)->Prepare(
      "SELECT t.name || '.' || c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
      " AND t.name NOT IN ('moved', 'sqlite_sequence')");
  ASSERT_TRUE(columns.ok()) << columns.status();
  while (*columns->Step()) inFile.insert(std::string(columns->TextAt(0)));
  EXPECT_EQ(from, inFile);
}

}  // namespace
}  // namespace kveil::keys
