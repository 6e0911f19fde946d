// What tests of turning epochs need: a registry of each kind, and an agent that goes step by step.
#pragma once

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/text.h"
#include "key_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/root/open_root_key.h"
#include "keys/service/epoch_turns.h"
#include "postgres_server.h"

namespace kveil::keys {

struct EpochsBackend {
  std::string name;
  std::function<RegistryOptions(const std::string& folder)> options;
  // Runs statements on the registry's tables, which `prefix` comes before.
  std::function<void(const std::string& folder, const std::string& sql)> execute;
  std::string prefix;
};
inline void PrintTo(const EpochsBackend& backend, std::ostream* out) { *out << backend.name; }

inline void ExecuteSqlite(const std::string& folder, const std::string& sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((folder + "/registry.db").c_str(), &database), SQLITE_OK);
  sqlite3_busy_timeout(database, 10'000);
  ASSERT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
      << sql << sqlite3_errmsg(database);
  sqlite3_close(database);
}

class EpochsTest : public KeyTest, public testing::WithParamInterface<EpochsBackend> {
 protected:
  KeyServiceOptions OptionsOf(const std::string& agent) {
    KeyServiceOptions options = Options();
    options.registry = GetParam().options(folder_);
    options.agentName = agent;
    return options;
  }
  std::unique_ptr<KeyService> OpenAgent(const std::string& agent = "node-1") { return Open(OptionsOf(agent)); }
  // {} stands for the prefix of tables.
  void Execute(std::string sql) {
    for (size_t at; (at = sql.find("{}")) != std::string::npos;) sql.replace(at, 2, GetParam().prefix);
    GetParam().execute(folder_, sql);
  }

  std::string ScopeKeys() const { return GetParam().prefix.empty() ? "scopeKeys" : "kveil.scope_keys"; }
  std::string KeyIdColumn() const { return GetParam().prefix.empty() ? "keyId" : "key_id"; }
  static std::string Hex(Bytes bytes) { return absl::BytesToHexString(ToAbsl(AsText(bytes))); }
  // The statement that makes a row what it was.
  static std::string RowBack(const Registry::Row& row) {
    const std::string id = Hex(row.id.bytes), wrapped = Hex(row.wrappedKey);
    const std::string epoch = std::to_string(row.epoch);
    return GetParam().prefix.empty() ? "UPDATE scopeKeys SET epochAndState = 128 + " + epoch + ", bytes = x'" +
                                           wrapped + "' WHERE keyId = x'" + id + "'"
                                     : "UPDATE kveil.scope_keys SET epoch = " + epoch + ", wrapped_key = '\\x" +
                                           wrapped + "'::bytea WHERE key_id = '\\x" + id + "'::bytea";
  }
  void PutRow(const Registry::Row& row) { Execute(RowBack(row)); }
  // Puts an erased row back as the active one that it was.
  void ActivateRow(const Registry::Row& row) {
    if (!GetParam().prefix.empty()) {
      Execute("UPDATE kveil.scope_keys SET state = 1, erased = NULL WHERE key_id = '\\x" + Hex(row.id.bytes) +
              "'::bytea");
    }
    PutRow(row);
  }

  // Has a row hold something that no key unwraps. Returns it as it was.
  Registry::Row DamageRow(const crypto::KeyId& id) {
    const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    auto registry = *OpenRegistry(GetParam().options(folder_), true, soon);
    registry->SetDeadline(soon);
    const Registry::Row row = ***registry->FindManyById({&id, 1})->begin();
    Registry::Row damaged = row;
    damaged.wrappedKey.assign(row.wrappedKey.size(), 0);
    PutRow(damaged);
    return row;
  }

  static std::string NameOf(int user) { return "user-" + std::to_string(user); }
  // The keys of users, by their ids.
  using Keys = std::map<std::string, std::pair<crypto::KeyId, std::string>>;
  static Keys KeysOf(KeyService& service, int first, int last) {
    Misses misses;
    for (int user = first; user < last; ++user) misses.scopes.emplace_back(User(NameOf(user)));
    const FetchResult result = Ask(service, std::move(misses));
    EXPECT_TRUE(result.status.ok()) << result.status;
    Keys keys;
    for (const auto& [name, key] : result.scopes) {
      EXPECT_FALSE(key.erasedSubject) << name.subject;
      keys[name.subject] = {key.id, std::string(AsText(key.key.bytes()))};
    }
    EXPECT_EQ(keys.size(), static_cast<size_t>(last - first));
    return keys;
  }
  static FetchResult::IdState StateById(KeyService& service, const crypto::KeyId& id) {
    Misses misses;
    misses.ids.push_back(id);
    const FetchResult result = Ask(service, std::move(misses));
    EXPECT_TRUE(result.status.ok()) << result.status;
    return result.ids.empty() ? FetchResult::IdState::kUnknown : result.ids.front().state;
  }
  static bool IsIn(KeyService& service, int64_t epoch) {
    const auto epochs = service.ListEpochs(/*withKeys=*/false);
    if (!epochs.ok()) return false;  // a machine that is busy with other tests
    for (const KeyService::EpochInfo& one : epochs->epochs) {
      if (one.state == KeyService::EpochState::kComing || one.state == KeyService::EpochState::kEnding) return false;
    }
    return epochs->epochs.back().number == epoch;
  }
  static void Turn(KeyService& service) {
    const auto before = service.TurnEpochs();
    ASSERT_TRUE(before.ok()) << before.status();
    ASSERT_TRUE(Eventually([&] { return IsIn(service, *before + 1); })) << service.health();
  }
};

// The objects of one agent, without a thread, so that it can end between any two steps.
struct Turner {
  Turner(const RegistryOptions& options, const std::string& keyFile, uint8_t number,
         std::chrono::milliseconds turnEvery = std::chrono::milliseconds(0))
      : Turner(options, *OpenRootKey({.file = keyFile}, false, Soon()), number, turnEvery) {}
  Turner(const RegistryOptions& options, std::unique_ptr<RootKey> rootKey, uint8_t number,
         std::chrono::milliseconds turnEvery = std::chrono::milliseconds(0))
      : registry(*OpenRegistry(options, true, Soon())), root(std::move(rootKey)) {
    registry->SetDeadline(Soon());
    self.id.fill(number);
    self.name = "turner";
    self.cacheTtl = std::chrono::seconds(60);
    auto loaded = RegistryKeys::Load(*root, *registry, **registry->ReadIdentity(), Soon());
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (loaded.ok()) keys.emplace(*std::move(loaded));
    turns.emplace(EpochTurns::Options{turnEvery, [this] { return steady; }, [] { return absl::Now(); }}, *registry,
                  *root, *keys);
  }
  static std::chrono::steady_clock::time_point Soon() {
    return std::chrono::steady_clock::now() + std::chrono::seconds(20);
  }
  std::vector<Registry::Epoch> Follow() {
    auto rows = registry->ReadEpochs();
    EXPECT_TRUE(rows.ok()) << rows.status();
    if (!keys->Knows(*rows)) {
      auto epochs = RegistryKeys::UnwrapEpochs(*root, keys->owner(), *rows, Soon());
      EXPECT_TRUE(epochs.ok()) << epochs.status();
      keys->Add(*std::move(epochs));
    }
    keys->Follow(*rows);
    keys->DropOthers(*rows);
    return *std::move(rows);
  }
  absl::StatusOr<EpochTurns::Result> Step() {
    const std::vector<Registry::Epoch> rows = Follow();
    self.epoch = keys->newestEpoch();
    EXPECT_TRUE(registry->NoteAgent(self).ok());
    return turns->Step(rows, self.id, true);
  }
  // Until there is nothing to do. The number of the epoch that is in use then.
  int64_t Settle() {
    absl::StatusOr<EpochTurns::Result> result = EpochTurns::Result{true, false};
    for (int step = 0; step < 20 && result.ok() && result->hasMore; ++step) result = Step();
    EXPECT_TRUE(result.ok()) << result.status();
    return keys->epochInUse();
  }
  std::chrono::steady_clock::time_point steady = std::chrono::steady_clock::now();
  std::unique_ptr<Registry> registry;
  std::unique_ptr<RootKey> root;
  Registry::Agent self;
  std::optional<RegistryKeys> keys;
  std::optional<EpochTurns> turns;
};

inline const EpochsBackend kSqliteEpochs = {
    "sqlite", [](const std::string& folder) { return RegistryOptions{.sqlite = folder + "/registry.db"}; },
    ExecuteSqlite, ""};
inline const EpochsBackend kPostgresEpochs = {
    "postgres", [](const std::string& folder) { return PostgresServer::Running().OptionsFor(folder); },
    [](const std::string& folder, const std::string& sql) { PostgresServer::Running().ClientOf(folder).Query(sql); },
    "kveil."};
}  // namespace kveil::keys
