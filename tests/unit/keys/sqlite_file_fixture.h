// An SQLite registry whose file is looked into.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "key_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

class SqliteFileTest : public KeyTest {
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

inline void ExpectSameRow(const Registry::Row& row, const Registry::Row& other) {
  EXPECT_EQ(row.id, other.id);
  EXPECT_EQ(row.scope, other.scope);
  EXPECT_EQ(row.name, other.name);
  EXPECT_EQ(row.epoch, other.epoch);
  EXPECT_EQ(row.wrappedKey, other.wrappedKey);
}

}  // namespace kveil::keys
