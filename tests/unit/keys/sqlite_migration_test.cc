// Files of an SQLite registry that an earlier version has made: what they have is kept, whatever ends the migration.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "killed_at.h"
#include "sqlite_file_fixture.h"

namespace kveil::keys {
namespace {

using testing::HasSubstr;

// Turns the file of a registry into what format 6 made of it.
constexpr char kToFormat6[] =
    "BEGIN;"
    "CREATE TABLE wrappedKeys (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;"
    "INSERT INTO wrappedKeys SELECT number, bytes FROM scopeKeys WHERE epochAndState > 0;"
    "CREATE TABLE older (keyId BLOB PRIMARY KEY, scope INTEGER NOT NULL, subject BLOB NOT NULL,"
    "  keyWindow INTEGER NOT NULL, epoch INTEGER NOT NULL, wrappedKey INTEGER, state INTEGER NOT NULL,"
    "  created INTEGER NOT NULL, erased INTEGER) STRICT, WITHOUT ROWID;"
    "INSERT INTO older SELECT keyId, scope, subject, keyWindow, epoch, CASE state WHEN 1 THEN number END, state,"
    "  created, erased FROM keyRows;"
    "DROP VIEW keyRows; DROP TABLE scopeKeys; ALTER TABLE older RENAME TO scopeKeys;"
    "CREATE UNIQUE INDEX activeScopeKeys ON scopeKeys (subject, keyWindow) WHERE state = 1;"
    "CREATE INDEX erasedScopeKeys ON scopeKeys (subject) WHERE state = 2;"
    "CREATE INDEX activeEpochs ON scopeKeys (epoch) WHERE state = 1;"
    "PRAGMA user_version = 6;"
    "COMMIT";

class SqliteMigrationTest : public SqliteFileTest {
 protected:
  // A file of format 6 with these rows, the first of which is erased; nobody has it open.
  void MakeFormat6(const std::vector<Registry::NewRow>& rows) {
    {
      auto registry = Connect();
      Insert(*registry, rows);
      Erase(*registry, rows.front().row.name.subject);
    }
    Execute(kToFormat6);
    Execute("PRAGMA wal_checkpoint(TRUNCATE)");
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(registryFile() + suffix);
  }
  // The file is of one format or the other, and sound. Returns the format.
  std::string FormatNow() {
    EXPECT_EQ(Get("PRAGMA integrity_check"), "ok");
    return Get("PRAGMA user_version");
  }
  // Opens it, whichever format it has: it has these rows, each once.
  void ExpectRows(const std::vector<Registry::NewRow>& rows) {
    const auto registry = OpenRegistry({.sqlite = registryFile()}, /*mustExist=*/true, Soon());
    ASSERT_TRUE(registry.ok()) << registry.status();
    (*registry)->SetDeadline(Soon());
    EXPECT_EQ(Get("PRAGMA user_version"), "7");
    EXPECT_EQ(Get("SELECT count(*) FROM scopeKeys"), StrCat(rows.size()));
    EXPECT_TRUE(Find(**registry, rows.front().row.id)->erased);
    for (size_t i = 1; i < rows.size(); ++i) {
      const auto byName = Find(**registry, rows[i].row.name), byId = Find(**registry, rows[i].row.id);
      ASSERT_TRUE(byName.has_value() && byId.has_value()) << i;
      ExpectSameRow(*byName, rows[i].row);
      ExpectSameRow(*byId, rows[i].row);
    }
  }
};

TEST_F(SqliteMigrationTest, AFileOfFormat6KeepsWhatItHas) {
  std::vector<Registry::NewRow> rows = NewUsers(200, 60);
  rows[1].row.scope = Scope::kTopic;
  rows[1].row.name.window = 675;
  rows[2].row.scope = Scope::kCluster;
  rows[2].row.name.window = 1;
  rows[3].row.wrappedKey.resize(104);
  Registry::KeyList before;
  {
    auto registry = Connect();
    Insert(*registry, rows);
    Erase(*registry, rows[0].row.name.subject);
    before = *registry->ListKeys("", 1000);
  }
  Execute(kToFormat6);
  Execute("UPDATE scopeKeys SET created = created + 59999");  // earlier formats have it to the millisecond
  auto registry = Connect();
  EXPECT_EQ(Get("PRAGMA user_version"), "7");
  EXPECT_EQ(Get("SELECT count(*) FROM sqlite_schema WHERE name IN ('wrappedKeys', 'scopeKeysBefore', 'activeEpochs')"),
            "0");
  for (size_t i = 1; i < rows.size(); ++i) {
    const auto byName = Find(*registry, rows[i].row.name), byId = Find(*registry, rows[i].row.id);
    ASSERT_TRUE(byName.has_value() && byId.has_value()) << i;
    ExpectSameRow(*byName, rows[i].row);
    ExpectSameRow(*byId, rows[i].row);
  }
  EXPECT_TRUE(Find(*registry, rows[0].row.id)->erased);
  EXPECT_EQ(Find(*registry, rows[0].row.name), std::nullopt);
  const Registry::KeyList after = *registry->ListKeys("", 1000);
  ASSERT_EQ(after.keys.size(), before.keys.size());
  for (size_t i = 0; i < after.keys.size(); ++i) {
    EXPECT_EQ(after.keys[i].id, before.keys[i].id);
    EXPECT_EQ(after.keys[i].made, before.keys[i].made);
    EXPECT_EQ(after.keys[i].erased, before.keys[i].erased);
  }
  EXPECT_EQ(registry->CountKeys()->counts.front().keys, rows.size() - 1);
  // And it goes on.
  Erase(*registry, rows[4].row.name.subject);
  ASSERT_TRUE(registry->PurgeErased().ok());
  const std::string file = ReadFile(registryFile());
  EXPECT_EQ(file.find(Text(rows[4].row.wrappedKey).substr(0, 12)), std::string::npos);
  EXPECT_NE(file.find(Text(rows[5].row.wrappedKey)), std::string::npos);
  EXPECT_EQ(file.find(Text(rows[5].row.wrappedKey), file.find(Text(rows[5].row.wrappedKey)) + 1), std::string::npos)
      << "where it was in format 6";
}

TEST_F(SqliteMigrationTest, AMigrationThatEndsHalfwayHasChangedNothing) {
  const std::vector<Registry::NewRow> rows = NewUsers(20, 60);
  {
    auto registry = Connect();
    Insert(*registry, rows);
    BeginTurn(*registry);
    ASSERT_TRUE(*registry->MoveTurn(2, {9}, {}, Text(rows[5].row.id.bytes), {}));
  }
  Execute(kToFormat6);
  // The last step.
  Execute("CREATE TRIGGER no BEFORE UPDATE ON turns BEGIN SELECT RAISE(ABORT, 'power cut'); END");
  EXPECT_FALSE(TryConnect().ok());
  EXPECT_EQ(Get("PRAGMA user_version"), "6");
  EXPECT_EQ(Get("SELECT count(*) FROM scopeKeys JOIN wrappedKeys ON number = wrappedKey"), "20");
  EXPECT_EQ(Get("SELECT count(*) FROM sqlite_schema WHERE name IN ('keyRows', 'scopeKeysBefore')"), "0");
  Execute("DROP TRIGGER no");
  auto registry = Connect();
  for (const Registry::NewRow& row : rows) ExpectSameRow(*Find(*registry, row.row.name), row.row);
  // Rows are in another order than that of the place.
  EXPECT_EQ(*registry->LeadTurn(2, {9}, std::chrono::hours(1)), "");
}

TEST_F(SqliteMigrationTest, AFileIsNotMigratedWithoutRoomForIt) {
  Insert(*Connect(), NewUsers(200, 60));
  Execute(kToFormat6);
  const uint64_t size = std::filesystem::file_size(registryFile());
  RegistryOptions options{.sqlite = registryFile()};
  options.freeBytes = [&] { return 2 * size - 1; };
  const auto refused = OpenRegistry(options, /*mustExist=*/true, Soon());
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("needs 1 MiB of free disk"));
  EXPECT_EQ(Get("PRAGMA user_version"), "6");
  options.freeBytes = [&] { return 2 * size; };
  EXPECT_TRUE(OpenRegistry(options, /*mustExist=*/true, Soon()).ok());
}

// Whoever started it hears that it lives, and may end it.
TEST_F(SqliteMigrationTest, AMigrationAsksWhetherToGoOn) {
  Insert(*Connect(), NewUsers(200, 60));
  Execute(kToFormat6);
  int asked = 0;
  RegistryOptions options{.sqlite = registryFile()};
  options.mayWait = [&](const absl::Status& reason) {
    EXPECT_THAT(std::string(reason.message()), HasSubstr("is brought from format 6 to 7"));
    return ++asked > 1;
  };
  EXPECT_TRUE(absl::IsCancelled(OpenRegistry(options, /*mustExist=*/true, Soon()).status()));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(std::filesystem::file_size(registryFile() + "-wal"), 0u);
  EXPECT_EQ(Get("PRAGMA user_version"), "6");
  EXPECT_EQ(Get("SELECT count(*) FROM scopeKeys JOIN wrappedKeys ON number = wrappedKey"), "200");
  {
    const auto registry = OpenRegistry(options, /*mustExist=*/true, Soon());
    EXPECT_TRUE(registry.ok()) << registry.status();
    EXPECT_EQ(std::filesystem::file_size(registryFile() + "-wal"), 0u);
  }
  EXPECT_GT(asked, 1);
  EXPECT_EQ(Get("PRAGMA user_version"), "7");
}

// Of a key that is missing, nobody is told that it was erased.
TEST_F(SqliteMigrationTest, AWrappedKeyThatFormat6LacksStaysDamage) {
  const std::vector<Registry::NewRow> rows = NewUsers(2, 60);
  {
    auto registry = Connect();
    Insert(*registry, rows);
  }
  Execute(kToFormat6);
  Execute("DELETE FROM wrappedKeys WHERE number = 1");
  auto registry = Connect();
  const auto found = Find(*registry, rows[0].row.id);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE(found->erased);
  EXPECT_TRUE(found->wrappedKey.empty());
  ExpectSameRow(*Find(*registry, rows[1].row.id), rows[1].row);
  Erase(*registry, rows[0].row.name.subject);
  EXPECT_TRUE(Find(*registry, rows[0].row.id)->erased);
}

// Each time, at the next of all that it writes.
TEST_F(SqliteMigrationTest, OneThatIsKilledAtAnyPointLosesNoKey) {
  const std::vector<Registry::NewRow> rows = NewUsers(100, 60);
  MakeFormat6(rows);
  const std::string before = ReadFile(registryFile());
  std::set<std::string> formats;
  int points = 0;
  for (bool isKilled = true; isKilled; ++points) {
    ASSERT_LT(points, 1000);
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(registryFile() + suffix);
    WriteFile(registryFile(), before);
    const std::optional<bool> wasKilled = IsKilledAt(
        points + 1, [](const __ptrace_syscall_info& info) { return ChangesAFile(info) || Writes(info); },
        [&] {
          raise(SIGSTOP);
          (void)OpenRegistry({.sqlite = registryFile()}, /*mustExist=*/true, Soon());
        });
    ASSERT_TRUE(wasKilled.has_value()) << "processes may not be traced here";
    isKilled = *wasKilled;
    // Every other time, nobody looks before the next agent starts.
    if (points % 2 == 0 || !isKilled) {
      const std::string format = FormatNow();
      ASSERT_TRUE(format == "6" || format == "7") << format << " at " << points;
      EXPECT_TRUE(isKilled || format == "7");
      formats.insert(format);
    }
    ExpectRows(rows);
    ASSERT_FALSE(HasFailure()) << points;
  }
  EXPECT_GT(points, 30);
  EXPECT_EQ(formats.size(), 2u);
}

// Others fill the disk while it goes on.
TEST_F(SqliteMigrationTest, AFullDiskLosesNoKey) {
  ASSERT_EQ(unshare(CLONE_NEWNS), 0) << "needs root: " << strerror(errno);
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  const std::vector<Registry::NewRow> rows = NewUsers(400, 60);
  MakeFormat6(rows);
  const std::string before = ReadFile(registryFile());
  int failures = 0;
  for (bool isDone = false; !isDone; ++failures) {
    const size_t free = static_cast<size_t>(failures + 1) * (16 << 10);
    ASSERT_LT(free, 8 * before.size());
    const std::string size = StrCat("size=", (before.size() + free + 4095) / 4096 * 4096);
    ASSERT_EQ(mount("tmpfs", folder_.c_str(), "tmpfs", 0, size.c_str()), 0) << strerror(errno);
    WriteFile(registryFile(), before);
    RegistryOptions options{.sqlite = registryFile()};
    options.freeBytes = [] { return uint64_t{1} << 40; };
    isDone = OpenRegistry(options, /*mustExist=*/true, Soon()).ok();
    ASSERT_EQ(mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, "size=16m"), 0) << strerror(errno);
    EXPECT_EQ(FormatNow(), isDone ? "7" : "6");
    ExpectRows(rows);
    ASSERT_FALSE(HasFailure()) << free;
    ASSERT_EQ(umount(folder_.c_str()), 0) << strerror(errno);
  }
  EXPECT_GT(failures, 5);
}

// It takes minutes with many users, for which everybody would wait who asks for a key.
TEST_F(SqliteMigrationTest, AFileThatTakesThePlaceOfOneInUseWaitsForAStart) {
  const std::vector<Registry::NewRow> rows = NewUsers(20, 60);
  MakeFormat6(rows);
  std::filesystem::copy_file(registryFile(), folder_ + "/old.db");
  auto registry = Connect();
  const Registry::NewRow later = NewUser();
  Insert(*registry, {&later, 1});
  std::filesystem::rename(registryFile(), folder_ + "/new.db");
  for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(registryFile() + suffix);
  std::filesystem::rename(folder_ + "/old.db", registryFile());
  for (int i = 0; i < 2; ++i) {
    const absl::Status refused = registry->EnsureOpen();
    EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
    EXPECT_EQ(refused.message(), StrCat("registry ", registryFile(),
                                        " was replaced by a file of format 6, which is brought to format 7 when kveil "
                                        "starts: restart kveil"));
  }
  EXPECT_EQ(FormatNow(), "6");
  registry.reset();
  EXPECT_EQ(FormatNow(), "6");
  ExpectRows(rows);
}

}  // namespace
}  // namespace kveil::keys
