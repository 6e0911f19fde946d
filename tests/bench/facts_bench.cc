// What the consents of very many users take in an agent's memory: facts as the registry has them, decoded and held as a
// worker holds them. `per_consent` is in bytes.
//
//   build/release/facts_bench
//
// Arguments: consents of a user; whether all users have granted the same, so that they share them.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <string>
#include <vector>

#include "base/text.h"
#include "keys/service/facts_pool.h"

namespace kveil::keys {
namespace {

constexpr size_t kConsents = 1'000'000;

size_t Allocated() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

std::string Stored(size_t user, size_t consents, bool areSame) {
  users::UserFacts facts;
  for (size_t i = 0; i < consents; ++i) {
    const int64_t until = 1'800'000'000'000 + (areSame ? 0 : static_cast<int64_t>(user));
    facts.consents.push_back({StrCat("purpose-", 10 + i), absl::FromUnixMillis(until)});
  }
  return users::Encode(facts);
}

void HoldConsents(benchmark::State& state) {
  const auto consents = static_cast<size_t>(state.range(0));
  const size_t users = kConsents / consents;
  double bytes = 0;
  for (auto _ : state) {
    const size_t before = Allocated();
    FactsPool pool;
    std::vector<users::SharedFacts> held(users);
    for (size_t user = 0; user < users; ++user) held[user] = *pool.Get(Stored(user, consents, state.range(1) != 0));
    bytes = static_cast<double>(Allocated() - before);
    benchmark::DoNotOptimize(held);
  }
  state.counters["per_consent"] = bytes / kConsents;
  state.counters["per_user"] = bytes / static_cast<double>(users);
}
BENCHMARK(HoldConsents)->ArgsProduct({{1, 2, 10, 50}, {0, 1}})->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kveil::keys

BENCHMARK_MAIN();
