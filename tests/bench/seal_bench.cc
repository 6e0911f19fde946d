// Sealing and opening a batch whose keys are all in the worker's cache: 1300 records of 100 bytes of so many users.
// Time is a batch's; the counter `per_record` divides it.
//
//   build/release/seal_bench
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <filesystem>
#include <future>
#include <string>

#include "guard/open/batch_opener.h"
#include "guard/seal/batch_sealer.h"
#include "kafka/batch_writer.h"
#include "kafka/varint.h"

namespace kveil::guard {
namespace {

constexpr int32_t kRecords = 1300;
constexpr size_t kValueSize = 100;

ByteBuffer ProducedBatch(int users) {
  ByteBuffer out;
  kafka::BatchHeader header;
  kafka::BatchWriter writer;
  header.lastOffsetDelta = kRecords - 1;
  writer.Begin(header, out);
  for (int32_t i = 0; i < kRecords; ++i) {
    ByteBuffer prefix(32);
    prefix[0] = 0;  // attributes
    uint8_t* end = kafka::WriteVarlong(prefix.data() + 1, 0);
    end = kafka::WriteVarint(end, i);
    end = kafka::WriteVarint(end, -1);
    kafka::RecordView record;
    record.beforeValue = Bytes(prefix.data(), static_cast<size_t>(end - prefix.data()));
    std::string value = R"({"userid": "user-)" + std::to_string(i * 7 % users) + R"(", "request": ")";
    value.resize(kValueSize - 2, 'r');
    value += "\"}";
    std::copy(value.begin(), value.end(), writer.AddRecord(record, value.size(), kafka::HeaderEdit::Keep()));
  }
  if (!writer.Finish(kafka::Codec::kNone).ok()) abort();
  out.reserve(out.size() + kafka::kTailPadding);
  return out;
}

class Node {
 public:
  Node() {
    char path[] = "/tmp/kveil-bench-XXXXXX";
    folder_ = mkdtemp(path);
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.cacheTtl = std::chrono::hours(1);
    service_ = *keys::KeyService::Open(options);
    scratch = std::make_unique<WorkerScratch>(*service_);
    const std::vector<std::pair<std::string, std::string>> files = {
        {"p.json",
         R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": true}]}]})"}};
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

void BM_Seal(benchmark::State& state) {
  Node node;
  const ByteBuffer produced = ProducedBatch(static_cast<int>(state.range(0)));
  ByteBuffer out;
  SealOutcome outcome = Seal(node, produced, out);
  if (outcome.kind == SealOutcome::Kind::kNeeds) node.Fetch(std::move(outcome.needs));
  for (auto _ : state) {
    if (Seal(node, produced, out).kind != SealOutcome::Kind::kSealed) abort();
  }
  Report(state);
}
BENCHMARK(BM_Seal)->Arg(1)->Arg(10)->Arg(kRecords);

void BM_Open(benchmark::State& state) {
  Node node;
  const ByteBuffer produced = ProducedBatch(static_cast<int>(state.range(0)));
  ByteBuffer sealed;
  ByteBuffer out;
  SealOutcome outcome = Seal(node, produced, sealed);
  if (outcome.kind == SealOutcome::Kind::kNeeds) node.Fetch(std::move(outcome.needs));
  if (Seal(node, produced, sealed).kind != SealOutcome::Kind::kSealed) abort();
  OpenOutcome opened = Open(node, sealed, out);
  if (opened.kind == OpenOutcome::Kind::kNeeds) node.Fetch(std::move(opened.needs));
  for (auto _ : state) {
    if (Open(node, sealed, out).kind != OpenOutcome::Kind::kRewritten) abort();
  }
  Report(state);
}
BENCHMARK(BM_Open)->Arg(1)->Arg(10)->Arg(kRecords);

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
