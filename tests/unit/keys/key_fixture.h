// A folder of its own, a key service in it, clocks to turn, and short ways to ask.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "keys/cache/key_cache.h"
#include "keys/service/key_service.h"

namespace kveil::keys {

class KeyTest : public testing::Test {
 public:
  static std::string ReadFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void WriteFile(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }

 protected:
  KeyTest() {
    char path[] = "/tmp/kveil-keys-XXXXXX";
    folder_ = mkdtemp(path);
  }
  ~KeyTest() override { std::filesystem::remove_all(folder_); }

  std::string keyFile() const { return folder_ + "/root.key"; }
  std::string registryFile() const { return folder_ + "/registry.db"; }

  KeyServiceOptions Options() {
    KeyServiceOptions options;
    options.root.file = keyFile();
    options.registry.sqlite = registryFile();
    options.steadyNow = [this] {
      return std::chrono::steady_clock::time_point(std::chrono::milliseconds(steadyMillis_.load()));
    };
    options.wallNow = [this] { return absl::FromUnixMillis(wallMillis_.load()); };
    return options;
  }

  std::unique_ptr<KeyService> Open() { return Open(Options()); }
  std::unique_ptr<KeyService> Open(KeyServiceOptions options) {
    auto service = KeyService::Open(std::move(options));
    // The test ends here, and not the program.
    if (!service.ok()) throw std::runtime_error(service.status().ToString());
    return *std::move(service);
  }
  absl::Status OpenError() { return KeyService::Open(Options()).status(); }

  void Advance(std::chrono::milliseconds time) {
    steadyMillis_ += time.count();
    wallMillis_ += time.count();
  }

  // All of it, piece by piece, as one result.
  static FetchResult Ask(KeyService& service, Misses misses, std::string_view workload = "app.service") {
    FetchResult sum;
    bool isFirst = true;
    do {
      std::promise<FetchResult> promise;
      service.Fetch(misses.Take(kMostKeysOfAFetch), workload,
                    [&promise](FetchResult result) { promise.set_value(std::move(result)); });
      FetchResult piece = promise.get_future().get();
      if (isFirst) {
        sum = std::move(piece);
      } else {
        for (auto& found : piece.scopes) sum.scopes.push_back(std::move(found));
        for (auto& found : piece.ids) sum.ids.push_back(std::move(found));
        sum.status.Update(piece.status);
      }
      isFirst = false;
    } while (!misses.empty());
    return sum;
  }

  static absl::Status TryUnwrap(KeyService& service) {
    std::promise<absl::Status> promise;
    service.TryUnwrap([&promise](absl::Status status) { promise.set_value(std::move(status)); });
    return promise.get_future().get();
  }

  static ScopeName User(std::string_view user, std::string_view keyspace = "clicks") {
    return {Scope::kUser, keyspace, user};
  }
  static ScopeName Topic(std::string_view topic) { return {Scope::kTopic, "", topic}; }

  // Fetches and delivers one key for sealing, as a worker would.
  static CachedKey* SealingKey(KeyService& service, KeyCache& cache, const ScopeName& name) {
    cache.Refresh();
    if (CachedKey* key = cache.FindForSealing(name)) return key;
    Misses misses;
    misses.scopes.emplace_back(name);
    absl::Status status = cache.Deliver(Ask(service, std::move(misses)));
    EXPECT_TRUE(status.ok()) << status;
    return cache.FindForSealing(name);
  }

  static KeyCache::State StateOf(KeyService& service, KeyCache& cache, const KeyRef& id) {
    cache.Refresh();
    KeyCache::Found found = cache.FindById(id);
    if (found.state != KeyCache::State::kNotCached) return found.state;
    Misses misses;
    misses.ids.push_back(id);
    absl::Status status = cache.Deliver(Ask(service, std::move(misses)));
    if (!status.ok()) return KeyCache::State::kNotCached;
    return cache.FindById(id).state;
  }

  // Waits for what another thread does within a second or two; fails the test when it does not.
  template <typename Condition>
  static bool Eventually(Condition condition) {
    for (int i = 0; i < 3000; ++i) {
      if (condition()) return true;
      usleep(10'000);
    }
    return false;
  }

  std::string folder_;
  std::atomic<int64_t> steadyMillis_{1'000'000};
  std::atomic<int64_t> wallMillis_{1'750'000'000'000};
};

}  // namespace kveil::keys
