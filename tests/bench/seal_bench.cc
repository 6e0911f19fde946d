// Sealing and opening batches whose keys are all in the worker's cache: 1300 records, each of any of so many users.
// With 0 users the topic's key seals them. Time is a batch's; the counter `per_record` divides it.
//
//   build/release/seal_bench [--benchmark_filter=...]
//
// Arguments: users, bytes of a value.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "guard/open/batch_opener.h"
#include "guard/seal/batch_sealer.h"
#include "kafka/batch_writer.h"
#include "kafka/varint.h"

namespace kveil::guard {
namespace {

constexpr int32_t kRecords = 1300;
constexpr int kBatches = 64;  // more than one, so that a worker that has seen many users has to find them again

// `random`: the state of a generator.
ByteBuffer ProducedBatch(int users, size_t valueSize, uint32_t& random) {
  ByteBuffer out;
  kafka::BatchHeader header;
  kafka::BatchWriter writer;
  header.lastOffsetDelta = kRecords - 1;
  writer.Begin(header, out);
  for (int32_t i = 0; i < kRecords; ++i) {
    ByteBuffer prefix(32);
    prefix[0] = 0;  // attributes
    uint8_t* end = kafka::WriteVarint(prefix.data() + 1, 0);
    end = kafka::WriteVarint(end, i);
    end = kafka::WriteVarint(end, -1);
    kafka::RecordView record;
    record.beforeValue = Bytes(prefix.data(), static_cast<size_t>(end - prefix.data()));
    random = random * 1664525 + 1013904223;
    const uint32_t user = (random >> 8) % static_cast<uint32_t>(std::max(users, 1));
    std::string value = R"({"userid": "user-)" + std::to_string(user) + R"(", "request": ")";
    value.resize(valueSize - 2, 'r');
    value += "\"}";
    std::copy(value.begin(), value.end(), writer.AddRecord(record, value.size(), kafka::HeaderEdit::Keep()));
  }
  if (!writer.Finish(kafka::Codec::kNone).ok()) abort();
  out.reserve(out.size() + kafka::kTailPadding);
  return out;
}

class Node {
 public:
  explicit Node(bool perUser) {
    char path[] = "/tmp/kveil-bench-XXXXXX";
    folder_ = mkdtemp(path);
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.cacheTtl = std::chrono::hours(1);
    options.newUsersPerSecond = 1'000'000'000;
    service_ = *keys::KeyService::Open(options);
    scratch = std::make_unique<WorkerScratch>(*service_);
    const std::vector<std::pair<std::string, std::string>> files = {
        {"p.json",
         perUser
             ? R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": true}]}]})"
             : R"({"topics": [{"name": "t", "seal": {"scope": "topic"}, "read": [{"any": true}]}]})"}};
    policy_ = *policy::Policy::Parse(files);
    topic = policy_->Find("t");
  }
  ~Node() {
    scratch.reset();
    service_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Fetch(Needs needs) {
    while (!needs.empty()) {
      std::promise<keys::FetchResult> promise;
      service_->Fetch(needs.keys.Take(keys::kMostKeysOfAFetch), "bench",
                      [&](keys::FetchResult result) { promise.set_value(std::move(result)); });
      if (!scratch->keyCache.Deliver(promise.get_future().get()).ok()) abort();
    }
  }

  std::unique_ptr<WorkerScratch> scratch;
  const policy::TopicPolicy* topic = nullptr;

 private:
  std::string folder_;
  std::unique_ptr<keys::KeyService> service_;
  std::shared_ptr<const policy::Policy> policy_;
};

SealOutcome Seal(Node& node, const ByteBuffer& produced, ByteBuffer& out) {
  SealTask task;
  task.topic = node.topic;
  task.topicName = "t";
  task.cluster = "main";
  task.records = produced;
  out.clear();
  return SealBatch(task, *node.scratch, out);
}

OpenOutcome Open(Node& node, const ByteBuffer& sealed, ByteBuffer& out) {
  kafka::BatchView batch;
  if (kafka::BatchReader(sealed).Next(batch) != kafka::BatchReader::Result::kBatch) abort();
  OpenTask task;
  task.topic = node.topic;
  task.topicName = "t";
  out.clear();
  return OpenBatch(task, batch, *node.scratch, out);
}

void Report(benchmark::State& state) {
  const auto records = static_cast<double>(state.iterations()) * kRecords;
  state.counters["per_record"] = benchmark::Counter(records, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// So many that all users are in them, as far as there is room.
std::vector<ByteBuffer> ProducedBatches(const benchmark::State& state) {
  const int users = static_cast<int>(state.range(0));
  const int count = std::clamp(3 * users / kRecords, 1, kBatches);
  uint32_t random = 1;
  std::vector<ByteBuffer> batches;
  for (int i = 0; i < count; ++i) batches.push_back(ProducedBatch(users, static_cast<size_t>(state.range(1)), random));
  return batches;
}

void SealFetching(Node& node, const ByteBuffer& produced, ByteBuffer& out) {
  SealOutcome outcome = Seal(node, produced, out);
  if (outcome.kind == SealOutcome::Kind::kNeeds) {
    node.Fetch(std::move(outcome.needs));
    outcome = Seal(node, produced, out);
  }
  if (outcome.kind != SealOutcome::Kind::kSealed) abort();
}

void BM_Seal(benchmark::State& state) {
  Node node(state.range(0) > 0);
  const std::vector<ByteBuffer> batches = ProducedBatches(state);
  ByteBuffer out;
  for (const ByteBuffer& batch : batches) SealFetching(node, batch, out);
  size_t i = 0;
  for (auto _ : state) {
    if (Seal(node, batches[i++ % batches.size()], out).kind != SealOutcome::Kind::kSealed) abort();
  }
  Report(state);
}

void BM_Open(benchmark::State& state) {
  Node node(state.range(0) > 0);
  std::vector<ByteBuffer> batches;
  ByteBuffer out;
  for (const ByteBuffer& produced : ProducedBatches(state)) {
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

BENCHMARK(BM_Seal)->Apply(Sizes);
BENCHMARK(BM_Open)->Apply(Sizes);

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
