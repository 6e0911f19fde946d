// A key service with two providers of KEKs, "a" and "b", whose keys are all that somebody names.
#pragma once

#include <gmock/gmock.h>
#include <sqlite3.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "key_fixture.h"
#include "slow_root_key.h"

namespace kveil::keys {

class KekKeysTest : public KeyTest {
 protected:
  KeyServiceOptions WithKeks() {
    KeyServiceOptions options = Options();
    for (const char* name : {"a", "b"}) {
      options.kekProviders[name].openKek = [this, name](std::string_view key) {
        auto inner = OpenRootKey({.file = absl::StrCat(folder_, "/", name, "-", ToAbsl(key))}, true, Soon());
        EXPECT_TRUE(inner.ok()) << inner.status();
        return std::make_unique<SlowRootKey>(*std::move(inner), state(name));
      };
    }
    return options;
  }
  std::shared_ptr<ProviderState> state(const std::string& provider) { return provider == "a" ? a_ : b_; }
  static std::chrono::steady_clock::time_point Soon() {
    return std::chrono::steady_clock::now() + std::chrono::seconds(20);
  }

  static Misses TopicUnder(std::string_view topic, const std::string& provider, const std::string& key) {
    Misses misses;
    misses.scopes.emplace_back(Scope::kTopic, KeyspaceUnder("main", {provider, key}), std::string(topic));
    return misses;
  }
  static Misses Copy(const Misses& misses) { return {misses.scopes, misses.ids}; }
  // Asks again as workers do, until it is there.
  static FetchResult AskUntil(KeyService& service, const Misses& misses,
                              const std::function<bool(const FetchResult&)>& isIt) {
    FetchResult result;
    EXPECT_TRUE(Eventually([&] {
      result = Ask(service, Copy(misses));
      return isIt(result);
    })) << result.status;
    return result;
  }
  static FetchResult AskUntilThere(KeyService& service, const Misses& misses) {
    return AskUntil(service, misses, [](const FetchResult& result) { return result.status.ok(); });
  }
  static FetchResult AskUntilSaid(KeyService& service, const Misses& misses, const std::string& text) {
    return AskUntil(service, misses, [&text](const FetchResult& result) {
      return absl::IsUnavailable(result.status) && absl::StrContains(result.status.message(), text);
    });
  }
  static ScopeKey KeyOf(KeyService& service, const Misses& misses) {
    FetchResult result = AskUntilThere(service, misses);
    EXPECT_EQ(result.scopes.size(), 1u);
    return result.scopes.empty() ? ScopeKey() : std::move(result.scopes.front().key);
  }
  static Misses UserUnder(std::string_view user, const std::string& provider, const std::string& key) {
    Misses misses;
    misses.scopes.emplace_back(Scope::kUser, KeyspaceUnder("clicks", {provider, key}), std::string(user));
    return misses;
  }
  static Misses ById(const KeyRef& ref) {
    Misses misses;
    misses.ids.push_back(ref);
    return misses;
  }
  static bool HealthSays(KeyService& service, const std::string& text) {
    const bool says = Eventually([&] { return absl::StrContains(service.health().message(), text); });
    EXPECT_TRUE(says) << service.health();
    return says;
  }
  static void NoteSays(KeyService& service, const std::string& text) {
    EXPECT_TRUE(Eventually([&] { return absl::StrContains(service.kekNote(), text); })) << service.kekNote();
    EXPECT_TRUE(service.health().ok()) << service.health();
  }
  void Execute(const std::string& statement) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(database, statement.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << statement;
    sqlite3_close(database);
  }

  const std::shared_ptr<ProviderState> a_ = std::make_shared<ProviderState>();
  const std::shared_ptr<ProviderState> b_ = std::make_shared<ProviderState>();
};

}  // namespace kveil::keys
