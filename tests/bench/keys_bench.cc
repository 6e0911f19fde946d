// The key cache on its warm path, and what a miss costs.
//
//   build/release/keys_bench
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "keys/cache/key_cache.h"
#include "keys/service/key_service.h"

namespace kveil::keys {
namespace {

// A service on files of its own, with `users` keys in the cache.
class Node {
 public:
  explicit Node(size_t users) {
    char path[] = "/tmp/kveil-bench-XXXXXX";
    folder_ = mkdtemp(path);
    KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.cacheTtl = std::chrono::hours(1);
    options.newUsersPerSecond = 1'000'000'000;
    service = *KeyService::Open(options);
    cache = std::make_unique<KeyCache>(*service);
    for (size_t i = 0; i < users; ++i) names.push_back("user-" + std::to_string(i));
    Fetch(users);
  }
  ~Node() {
    cache.reset();
    service.reset();
    std::filesystem::remove_all(folder_);
  }

  void Fetch(size_t users, size_t first = 0) {
    Misses misses;
    for (size_t i = first; i < first + users; ++i)
      misses.scopes.emplace_back(Scope::kUser, "clicks", "user-" + std::to_string(i));
    while (!misses.empty()) {
      std::promise<FetchResult> promise;
      cache->Fetch(misses.Take(kMostKeysOfAFetch), "bench",
                   [&](FetchResult result) { promise.set_value(std::move(result)); });
      if (absl::Status status = cache->Deliver(promise.get_future().get()); !status.ok()) abort();
    }
  }

  std::unique_ptr<KeyService> service;
  std::unique_ptr<KeyCache> cache;
  std::vector<std::string> names;

 private:
  std::string folder_;
};

void FindForSealing(benchmark::State& state) {
  Node node(static_cast<size_t>(state.range(0)));
  size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(node.cache->FindForSealing({Scope::kUser, "clicks", node.names[i]}));
    if (++i == node.names.size()) i = 0;
  }
}
BENCHMARK(FindForSealing)->Arg(1)->Arg(100)->Arg(10'000);

void Refresh(benchmark::State& state) {
  Node node(100);
  for (auto _ : state) node.cache->Refresh();
}
BENCHMARK(Refresh);

// New users, made durably: one transaction for all of a fetch.
void MakeKeys(benchmark::State& state) {
  Node node(0);
  size_t next = 0;
  const size_t users = static_cast<size_t>(state.range(0));
  for (auto _ : state) node.Fetch(users, (next += users));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(MakeKeys)->Arg(1)->Arg(100)->Arg(1000)->UseRealTime();

// Known users, from the registry.
void ReadKeys(benchmark::State& state) {
  const size_t users = static_cast<size_t>(state.range(0));
  Node node(users);
  for (auto _ : state) node.Fetch(users);
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ReadKeys)->Arg(1)->Arg(100)->Arg(1000)->UseRealTime();

void EraseUser(benchmark::State& state) {
  Node node(0);
  node.Fetch(20'000);
  size_t user = 0;
  for (auto _ : state) {
    if (!node.service->Erase("clicks", "user-" + std::to_string(user++)).ok()) return state.SkipWithError("not erased");
  }
}
BENCHMARK(EraseUser)->Iterations(500)->UseRealTime();

}  // namespace
}  // namespace kveil::keys

BENCHMARK_MAIN();
