// Sealing and opening batches whose keys are all in the worker's cache: 1300 records, each of any of so many users.
// With 0 users the topic's key seals them. Time is a batch's; the counter `per_record` divides it.
//
//   build/release/seal_bench [--benchmark_filter=...]
//
// Arguments: users, bytes of a value. OneUser: each batch is of one of the users alone. UnderKek: the users' keys are
// mixed with a KEK key.
#include <benchmark/benchmark.h>

#include "sealing.h"

namespace kveil::guard {
namespace {

constexpr int kBatches = 64;  // more than one, so that a worker that has seen many users has to find them again

void Report(benchmark::State& state) {
  const auto records = static_cast<double>(state.iterations()) * kRecords;
  state.counters["per_record"] = benchmark::Counter(records, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// So many that all users are in them, as far as there is room.
std::vector<ByteBuffer> ProducedBatches(const benchmark::State& state, bool oneUser) {
  const int users = static_cast<int>(state.range(0));
  const int count = oneUser ? kBatches : std::clamp(3 * users / kRecords, 1, kBatches);
  uint32_t random = 1;
  std::vector<ByteBuffer> batches;
  for (int i = 0; i < count; ++i) {
    const uint32_t all = static_cast<uint32_t>(std::max(users, 1));
    const Users some = oneUser ? Users{.first = static_cast<uint32_t>(i) % all} : Users{.count = all};
    batches.push_back(ProducedBatch(some, static_cast<size_t>(state.range(1)), random));
  }
  return batches;
}

Node NodeFor(const benchmark::State& state, bool underKek) {
  return Node(
      state.range(0) > 0, R"([{"any": true}])", [](size_t) { return nullptr; },
      underKek ? R"(, "kek": {"provider": "p", "key": "kafka-customers-of-all-regions"})" : "");
}

void MeasureSealing(benchmark::State& state, bool oneUser, bool underKek = false) {
  Node node = NodeFor(state, underKek);
  const std::vector<ByteBuffer> batches = ProducedBatches(state, oneUser);
  ByteBuffer out;
  for (const ByteBuffer& batch : batches) SealFetching(node, batch, out);
  size_t i = 0;
  for (auto _ : state) {
    if (Seal(node, batches[i++ % batches.size()], out).kind != SealOutcome::Kind::kSealed) abort();
  }
  Report(state);
}

void MeasureOpening(benchmark::State& state, bool oneUser, bool underKek = false) {
  Node node = NodeFor(state, underKek);
  std::vector<ByteBuffer> batches;
  ByteBuffer out;
  for (const ByteBuffer& produced : ProducedBatches(state, oneUser)) {
    ByteBuffer sealed;
    SealFetching(node, produced, sealed);
    sealed.reserve(sealed.size() + kafka::kTailPadding);
    batches.push_back(std::move(sealed));
  }
  size_t i = 0;
  for (auto _ : state) {
    if (Open(node, batches[i++ % batches.size()], out).kind != OpenOutcome::Kind::kRewritten) abort();
  }
  Report(state);
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  for (int64_t size : {100, 1024}) {
    for (int64_t users : {0, 1, 10, 1000, 10'000, 100'000}) benchmark->Args({users, size});
  }
}

void BM_Seal(benchmark::State& state) { MeasureSealing(state, false); }
void BM_Open(benchmark::State& state) { MeasureOpening(state, false); }
void BM_SealOneUser(benchmark::State& state) { MeasureSealing(state, true); }
void BM_OpenOneUser(benchmark::State& state) { MeasureOpening(state, true); }
void BM_SealUnderKek(benchmark::State& state) { MeasureSealing(state, false, true); }
void BM_OpenUnderKek(benchmark::State& state) { MeasureOpening(state, false, true); }
BENCHMARK(BM_Seal)->Apply(Sizes);
BENCHMARK(BM_Open)->Apply(Sizes);
BENCHMARK(BM_SealOneUser)->Args({kBatches, 100})->Args({kBatches, 1024});
BENCHMARK(BM_OpenOneUser)->Args({kBatches, 100})->Args({kBatches, 1024});
BENCHMARK(BM_SealUnderKek)->Args({1000, 100})->Args({10'000, 100});
BENCHMARK(BM_OpenUnderKek)->Args({1000, 100})->Args({10'000, 100});

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
