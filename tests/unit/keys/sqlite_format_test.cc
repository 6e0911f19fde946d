// What is in the file of an SQLite registry: rows whose places in the indexes are the same, and what stays of keys that
// are no more.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sqlite_file_fixture.h"

namespace kveil::keys {
namespace {

using testing::HasSubstr;

class SqliteFormatTest : public SqliteFileTest {};

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
    ExpectSameRow(*Find(*registry, row.row.name), row.row);
    ExpectSameRow(*Find(*registry, row.row.id), row.row);
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

// Where the file has what is wrapped of each of these rows, by the key's id. It stands behind the id, the subject, and
// five bytes: the minute and the epoch.
std::map<std::string, size_t> PlacesOf(const std::string& file, const std::vector<Registry::NewRow>& rows) {
  std::unordered_map<std::string, std::string> subjects;
  for (const auto& made : rows) subjects.emplace(AsText(made.row.id.bytes), AsText(made.row.name.subject));
  std::map<std::string, size_t> places;
  for (size_t at = 0; at + 16 + 32 + 5 <= file.size(); ++at) {
    const auto found = subjects.find(file.substr(at, 16));
    if (found == subjects.end() || file.compare(at + 16, 32, found->second) != 0) continue;
    EXPECT_TRUE(places.emplace(found->first, at + 16 + 32 + 5).second) << "a row is in two places";
  }
  return places;
}

// What SQLite moves to make room, it leaves behind where it was. Users come, are erased and are wrapped anew among one
// another, in both sizes.
TEST_F(SqliteFormatTest, EveryWrappedKeyStaysInItsPlaceThroughErasuresAndATurn) {
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
  std::map<std::string, size_t> places;
  const auto expectPlaces = [&] {
    ASSERT_TRUE(registry->PurgeErased().ok());
    const std::string file = ReadFile(registryFile());
    const std::map<std::string, size_t> now = PlacesOf(file, rows);
    ASSERT_EQ(now.size(), rows.size());
    for (const Registry::NewRow& made : rows) {
      const size_t at = now.at(Text(made.row.id.bytes));
      ASSERT_EQ(places.emplace(Text(made.row.id.bytes), at).first->second, at) << "it was moved";
      const bool isKey = file.compare(at, made.row.wrappedKey.size(), AsText(made.row.wrappedKey)) == 0;
      ASSERT_EQ(isKey, !made.row.erased);
    }
  };
  for (int round = 0; round < 10; ++round) {
    const auto more = NewUsers(200, round < 5 ? 60 : 32);
    Insert(*registry, more);
    rows.insert(rows.end(), more.begin(), more.end());
    erase(rows.size() - 190);
    expectPlaces();
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
  expectPlaces();
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
