// What is in the file of an SQLite registry: files of earlier formats, rows whose places in the indexes are the same,
// and what stays of keys that are no more.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/text.h"
#include "key_fixture.h"
#include "keys/registry/open_registry.h"

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

class SqliteFormatTest : public KeyTest {
 protected:
  static constexpr absl::Time kNow = absl::FromUnixSeconds(1'750'000'000);

  static Registry::Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(20); }
  absl::StatusOr<std::unique_ptr<Registry>> TryConnect() {
    return OpenRegistry({.sqlite = registryFile()}, /*mustExist=*/false, Soon());
  }
  std::unique_ptr<Registry> Connect() {
    auto registry = TryConnect();
    EXPECT_TRUE(registry.ok()) << registry.status();
    (*registry)->SetDeadline(Soon());
    Registry::Identity identity{{1}, ByteBuffer(60, 1)};
    EXPECT_TRUE((*registry)->Initialise(identity, {1, ByteBuffer(60, 7)}, kNow).ok());
    return *std::move(registry);
  }
  // SQLite's error, empty when there is none.
  std::string Try(const std::string& sql) {
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    const bool isDone = sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
    std::string error = isDone ? "" : sqlite3_errmsg(database);
    sqlite3_close(database);
    return error;
  }
  void Execute(const std::string& sql) { ASSERT_EQ(Try(sql), "") << sql; }
  std::string Get(const std::string& sql) {
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr), SQLITE_OK)
        << sqlite3_errmsg(database);
    std::string text;
    if (sqlite3_step(statement) == SQLITE_ROW) {
      text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    }
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return text;
  }

  // `size`: of what is wrapped.
  static Registry::NewRow NewUser(size_t size = 32) {
    Registry::Row row;
    row.id = crypto::ComputeKeyId(crypto::SecretKey::Random());
    crypto::FillRandom(absl::MakeSpan(row.name.subject));
    row.epoch = 1;
    row.wrappedKey.resize(size);
    crypto::FillRandom(absl::MakeSpan(row.wrappedKey));
    return {std::move(row), "clicks"};
  }
  // A new one for each.
  static std::vector<Registry::NewRow> NewUsers(size_t count, size_t size = 32) {
    std::vector<Registry::NewRow> rows;
    for (size_t i = 0; i < count; ++i) rows.push_back(NewUser(size));
    return rows;
  }
  static void Insert(Registry& registry, absl::Span<const Registry::NewRow> rows) {
    const auto inserted = registry.InsertOrGet(rows, kNow);
    ASSERT_TRUE(inserted.ok()) << inserted.status();
    for (const auto& one : *inserted) EXPECT_EQ(one.state, Registry::Inserted::State::kNew);
  }
  static void Erase(Registry& registry, const Subject& subject) {
    const auto erased = registry.EraseSubjects("clicks", {&subject, 1}, kNow + absl::Hours(1));
    ASSERT_TRUE(erased.ok()) << erased.status();
    EXPECT_EQ(erased->front().keyCount, 1u);
  }
  static std::optional<Registry::Row> Find(Registry& registry, const Registry::RowName& name) {
    auto found = registry.FindMany({&name, 1});
    EXPECT_TRUE(found.ok() && found->front().ok());
    return *std::move(found->front());
  }
  static std::optional<Registry::Row> Find(Registry& registry, const crypto::KeyId& id) {
    auto found = registry.FindManyById({&id, 1});
    EXPECT_TRUE(found.ok() && found->front().ok());
    return *std::move(found->front());
  }
  // Has the second epoch be in use, and the agent {9} lead its turn.
  static void BeginTurn(Registry& registry) {
    const ByteBuffer secret = (*registry.ReadIdentity())->wrappedSecret;
    ASSERT_TRUE(*registry.AddEpoch({2, ByteBuffer(60, 8)}, secret, secret, kNow));
    ASSERT_TRUE(*registry.UseEpoch(2, kNow));
    ASSERT_EQ(*registry.LeadTurn(2, {9}, std::chrono::hours(1)), "");
  }
  static std::string Text(Bytes bytes) { return std::string(AsText(bytes)); }
};

void ExpectSame(const Registry::Row& row, const Registry::Row& other) {
  EXPECT_EQ(row.id, other.id);
  EXPECT_EQ(row.scope, other.scope);
  EXPECT_EQ(row.name, other.name);
  EXPECT_EQ(row.epoch, other.epoch);
  EXPECT_EQ(row.wrappedKey, other.wrappedKey);
}

TEST_F(SqliteFormatTest, AFileOfFormat6KeepsWhatItHas) {
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
    ExpectSame(*byName, rows[i].row);
    ExpectSame(*byId, rows[i].row);
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

TEST_F(SqliteFormatTest, AMigrationThatEndsHalfwayHasChangedNothing) {
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
  for (const Registry::NewRow& row : rows) ExpectSame(*Find(*registry, row.row.name), row.row);
  // Rows are in another order than that of the place.
  EXPECT_EQ(*registry->LeadTurn(2, {9}, std::chrono::hours(1)), "");
}

TEST_F(SqliteFormatTest, AFileIsNotMigratedWithoutRoomForIt) {
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
TEST_F(SqliteFormatTest, AMigrationAsksWhetherToGoOn) {
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
TEST_F(SqliteFormatTest, AWrappedKeyThatFormat6LacksStaysDamage) {
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
  ExpectSame(*Find(*registry, rows[1].row.id), rows[1].row);
  Erase(*registry, rows[0].row.name.subject);
  EXPECT_TRUE(Find(*registry, rows[0].row.id)->erased);
}

TEST_F(SqliteFormatTest, RowsInTheSamePlaceOfTheIndexesAreNotTakenForOneAnother) {
  std::vector<Registry::NewRow> rows = NewUsers(20);
  for (Registry::NewRow& row : rows) {
    std::fill_n(row.row.id.bytes.begin(), 4, 7);
    std::fill_n(row.row.name.subject.begin(), 4, 8);
  }
  rows[19].row.name = {rows[18].row.name.subject, 5};
  rows[18].row.scope = rows[19].row.scope = Scope::kTopic;
  auto registry = Connect();
  Insert(*registry, rows);
  for (const Registry::NewRow& row : rows) {
    ExpectSame(*Find(*registry, row.row.name), row.row);
    ExpectSame(*Find(*registry, row.row.id), row.row);
  }
  EXPECT_EQ(Find(*registry, {rows[0].row.name.subject, 5}), std::nullopt);
  EXPECT_EQ(Find(*registry, crypto::KeyId{{7, 7, 7, 7}}), std::nullopt);
  Erase(*registry, rows[3].row.name.subject);
  ASSERT_TRUE(*registry->GiveUpRow(rows[4].row, kNow));
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(Find(*registry, rows[i].row.name).has_value(), i != 3 && i != 4) << i;
    EXPECT_EQ(Find(*registry, rows[i].row.id)->erased, i == 3 || i == 4) << i;
  }
  const auto news = registry->Poll();
  ASSERT_TRUE(news.ok());
  // Pages that begin within a place.
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.row.id.bytes < b.row.id.bytes; });
  std::string from;
  size_t listed = 0;
  do {
    const auto page = registry->ListKeys(from, 3);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const Registry::KeyInfo& key : page->keys) EXPECT_EQ(key.id, rows.at(listed++).row.id);
    from = page->next;
  } while (!from.empty());
  EXPECT_EQ(listed, rows.size());
  const auto part = registry->ListKeys(std::string("\7\7\7", 3), 100);
  EXPECT_EQ(part->keys.size(), rows.size());
}

// The row that is there already would be found first, and a key that is given up would take the other one along.
TEST_F(SqliteFormatTest, NoKeyHasASecondRow) {
  const std::vector<Registry::NewRow> rows = NewUsers(2);
  auto registry = Connect();
  Insert(*registry, rows);
  const std::string again =
      "INSERT INTO scopeKeys (keyId, subject, scopeAndWindow, minute, epochAndState, bytes)"
      " SELECT ";
  const std::string rest = ", scopeAndWindow, minute, epochAndState, zeroblob(32) FROM scopeKeys WHERE number = 1";
  EXPECT_THAT(Try(again + "keyId, randomblob(32)" + rest), HasSubstr("this key has a row"));
  EXPECT_THAT(Try(again + "randomblob(16), subject" + rest), HasSubstr("this subject has an active key"));
  Erase(*registry, rows[0].row.name.subject);
  EXPECT_THAT(Try(again + "keyId, randomblob(32)" + rest), HasSubstr("this key has a row"));
  EXPECT_EQ(Get("SELECT count(*) FROM scopeKeys"), "2");
}

// What SQLite moves to make room, it leaves behind where it was. Users come, are erased and are wrapped anew among one
// another, in both sizes.
TEST_F(SqliteFormatTest, EveryWrappedKeyIsInOnePlaceThroughErasuresAndATurn) {
  auto registry = Connect();
  std::vector<Registry::NewRow> rows;
  std::vector<std::string> gone;
  const auto erase = [&](size_t from) {
    std::vector<Subject> subjects;
    for (size_t i = from; i < rows.size(); i += 7) {
      if (std::exchange(rows[i].row.erased, true)) continue;
      subjects.push_back(rows[i].row.name.subject);
      gone.push_back(Text(rows[i].row.wrappedKey));
    }
    ASSERT_TRUE(registry->EraseSubjects("clicks", subjects, kNow).ok());
  };
  for (int round = 0; round < 10; ++round) {
    const auto more = NewUsers(200, round < 5 ? 60 : 32);
    Insert(*registry, more);
    rows.insert(rows.end(), more.begin(), more.end());
    erase(rows.size() - 190);
  }
  BeginTurn(*registry);
  Registry::TurnPlace place;
  for (bool isEnd = false; !isEnd;) {
    const auto found = *registry->ReadRowsAfter(place, 256);
    std::vector<Registry::Row> rewrapped;
    Registry::TurnPlace after = place;
    for (const auto& one : found) {
      after = Text((*one)->id.bytes);
      if ((*one)->erased) continue;
      Registry::Row& row =
          std::find_if(rows.begin(), rows.end(), [&](const auto& made) { return made.row.id == (*one)->id; })->row;
      gone.push_back(Text(row.wrappedKey));
      row.epoch = 2;
      crypto::FillRandom(absl::MakeSpan(row.wrappedKey));
      rewrapped.push_back(row);
    }
    isEnd = found.size() < 256;
    if (isEnd) after = Registry::kTurnDone;
    ASSERT_TRUE(*registry->MoveTurn(2, {9}, place, after, rewrapped));
    place = after;
    erase(place.size() % 5);
  }
  erase(3);
  ASSERT_TRUE(*registry->EndTurn(2, {9}, kNow));
  ASSERT_TRUE(registry->PurgeErased().ok());
  constexpr size_t kPiece = 10;
  std::unordered_map<std::string, int> live, dead;
  const auto add = [](const std::string& wrapped, auto& pieces) {
    for (size_t at = 0; at + kPiece <= wrapped.size(); at += kPiece) pieces.emplace(wrapped.substr(at, kPiece), 0);
  };
  for (const Registry::NewRow& row : rows) {
    if (!row.row.erased) add(Text(row.row.wrappedKey), live);
  }
  for (const std::string& wrapped : gone) add(wrapped, dead);
  ASSERT_GT(gone.size(), 2000u);
  const std::string file = ReadFile(registryFile());
  for (size_t at = 0; at + kPiece <= file.size(); ++at) {
    const std::string piece = file.substr(at, kPiece);
    ASSERT_FALSE(dead.contains(piece)) << "at " << at;
    if (const auto found = live.find(piece); found != live.end()) ++found->second;
  }
  for (const auto& [piece, count] : live) ASSERT_EQ(count, 1);
}

// Others wait for no longer than a look at so many rows takes.
TEST_F(SqliteFormatTest, ALargeFileIsLookedThroughInStepsBeforeATurnEnds) {
  auto registry = Connect();
  Insert(*registry, NewUsers(1));
  registry.reset();
  const std::string more =
      "INSERT INTO scopeKeys (keyId, subject, scopeAndWindow, minute, epochAndState, bytes)"
      " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ";
  Execute(StrCat(more, "100000) SELECT randomblob(16), randomblob(32), 0, 0, 130, x'00' FROM n"));
  registry = Connect();
  BeginTurn(*registry);
  ASSERT_TRUE(*registry->MoveTurn(2, {9}, {}, std::string(Registry::kTurnDone), {}));
  EXPECT_FALSE(*registry->EndTurn(2, {9}, kNow)) << "the first row is of the epoch before";
  Execute(
      "UPDATE scopeKeys SET epochAndState = 130 WHERE number = 1;"
      "UPDATE scopeKeys SET epochAndState = 129 WHERE number = 100001");
  EXPECT_TRUE(absl::IsAborted(registry->EndTurn(2, {9}, kNow).status()));
  EXPECT_EQ(registry->ReadEpochs()->size(), 2u);
  EXPECT_FALSE(*registry->EndTurn(2, {9}, kNow)) << "so is the last one";
  Execute("UPDATE scopeKeys SET epochAndState = 130 WHERE number = 100001");
  const std::string done(Registry::kTurnDone);
  ASSERT_TRUE(*registry->MoveTurn(2, {9}, {}, done, {}));
  EXPECT_TRUE(absl::IsAborted(registry->EndTurn(2, {9}, kNow).status()));
  // Somebody puts a row back, behind what was looked at.
  Execute("UPDATE scopeKeys SET epochAndState = 129 WHERE number = 5");
  EXPECT_FALSE(*registry->EndTurn(2, {9}, kNow));
  EXPECT_EQ(*registry->LeadTurn(2, {9}, std::chrono::hours(1)), "");
  Execute("UPDATE scopeKeys SET epochAndState = 130 WHERE number = 5");
  ASSERT_TRUE(*registry->MoveTurn(2, {9}, {}, done, {}));
  EXPECT_TRUE(absl::IsAborted(registry->EndTurn(2, {9}, kNow).status()));
  Execute(
      "INSERT INTO scopeKeys (keyId, subject, scopeAndWindow, minute, epochAndState, bytes)"
      " VALUES (x'00', x'00', 0, 0, 129, x'00')");
  EXPECT_FALSE(*registry->EndTurn(2, {9}, kNow));
  EXPECT_EQ(*registry->LeadTurn(2, {9}, std::chrono::hours(1)), "");
  Execute("UPDATE scopeKeys SET epochAndState = 130 WHERE keyId = x'00'");
  ASSERT_TRUE(*registry->MoveTurn(2, {9}, {}, done, {}));
  // Another agent leads meanwhile: what it could not rewrap may be behind what this one has looked at.
  EXPECT_TRUE(absl::IsAborted(registry->EndTurn(2, {9}, kNow).status()));
  Execute(
      "UPDATE scopeKeys SET epochAndState = 129 WHERE number = 5;"
      "UPDATE turns SET agent = x'08', seen = 0, place = CAST('" +
      done + "' AS BLOB) WHERE epoch = 2");
  EXPECT_EQ(*registry->LeadTurn(2, {9}, std::chrono::hours(1)), done);
  EXPECT_FALSE(*registry->EndTurn(2, {9}, kNow));
  EXPECT_EQ(registry->ReadEpochs()->size(), 2u);
  Execute("UPDATE scopeKeys SET epochAndState = 130 WHERE number = 5");
  EXPECT_TRUE(absl::IsAborted(registry->EndTurn(2, {9}, kNow).status()));
  EXPECT_TRUE(*registry->EndTurn(2, {9}, kNow));
  EXPECT_EQ(registry->ReadEpochs()->size(), 1u);
}

}  // namespace
}  // namespace kveil::keys
