// What the audit trail adds to sealing and opening. Batches of 1300 records of 100 bytes, each of any of 1000 users,
// whose keys are all in the worker's cache. `per_record` is a record's time.
//
//   build/release/audit_bench --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// Argument: 0: no trail; 1: records are counted; 2: by user, too.
#include <benchmark/benchmark.h>

#include "guard/stages/audit.h"
#include "sealing.h"

namespace kveil::guard {
namespace {

enum class Counting { kNone, kRecords, kUsers };

// What a worker does for each minute is left out: the recorder takes what was counted.
class AuditedNode {
 public:
  AuditedNode(Counting counting, const std::string& read)
      : node_(true, read), topic_(*node_.topic), isAudited_(counting != Counting::kNone) {
    topic_.auditsUsers = counting == Counting::kUsers;
    node_.topic = &topic_;
    if (isAudited_) node_.scratch->audit = &tally_;
    node_.reader.share = "/system.slice/analytics.service";
    node_.reader.cgroupPath = node_.reader.share;
    node_.reader.unit = "analytics.service";
    uint32_t random = 1;
    produced_ = ProducedBatch({.count = 1000}, 100, random);
    SealFetching(node_, produced_, sealed_);
    sealed_.reserve(sealed_.size() + kafka::kTailPadding);
  }

  void Seal() {
    SealTask task;
    task.topic = node_.topic;
    task.topicName = "t";
    task.cluster = "main";
    task.records = produced_;
    task.isAudited = topic_.auditsUsers;
    out_.clear();
    SealOutcome outcome = SealBatch(task, *node_.scratch, out_);
    if (outcome.kind != SealOutcome::Kind::kSealed) abort();
    TellAudit(*node_.scratch, Of(audit::Access::kWrite), {.records = outcome.sealed}, outcome.audit);
  }
  void Open() {
    kafka::BatchView batch;
    if (kafka::BatchReader(sealed_).Next(batch) != kafka::BatchReader::Result::kBatch) abort();
    OpenTask task;
    task.topic = node_.topic;
    task.topicName = "t";
    task.readers = node_.readers();
    task.reader = &node_.reader;
    task.isAudited = isAudited_ && (task.readers != nullptr || topic_.auditsUsers);
    out_.clear();
    OpenOutcome outcome = OpenBatch(task, batch, *node_.scratch, out_);
    if (outcome.kind == OpenOutcome::Kind::kNeeds) return node_.Fetch(std::move(outcome.needs));
    if (outcome.kind != OpenOutcome::Kind::kRewritten) abort();
    TellAudit(*node_.scratch, Of(audit::Access::kRead), {.records = outcome.opened}, outcome.audit);
  }

 private:
  Audited Of(audit::Access access) const {
    return {.workload = node_.reader, .cluster = "main", .topic = "t", .policy = &topic_, .access = access, .entry = 0};
  }

  Node node_;
  policy::TopicPolicy topic_;
  const bool isAudited_;
  audit::Tally tally_;
  ByteBuffer produced_, sealed_, out_;
};

void Measure(benchmark::State& state, const std::string& read, void (AuditedNode::*work)()) {
  AuditedNode node(static_cast<Counting>(state.range(0)), read);
  (node.*work)();
  for (auto _ : state) (node.*work)();
  const auto records = static_cast<double>(state.iterations()) * kRecords;
  state.counters["per_record"] = benchmark::Counter(records, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

constexpr char kEverybody[] = R"([{"any": true}])";
constexpr char kByRule[] = R"([{"any": true, "where": {"header": {"name": "none", "equals": "x"}}},
                              {"any": true, "where": {"value": {"pointer": "/userid", "matches": "user-.*"}}}])";

void BM_AuditedSeal(benchmark::State& state) { Measure(state, kEverybody, &AuditedNode::Seal); }
void BM_AuditedOpen(benchmark::State& state) { Measure(state, kEverybody, &AuditedNode::Open); }
void BM_AuditedOpenByRule(benchmark::State& state) { Measure(state, kByRule, &AuditedNode::Open); }
BENCHMARK(BM_AuditedSeal)->DenseRange(0, 2);
BENCHMARK(BM_AuditedOpen)->DenseRange(0, 2);
BENCHMARK(BM_AuditedOpenByRule)->DenseRange(0, 2);

// What one batch tells.
void BM_Tell(benchmark::State& state) {
  audit::Tally tally;
  identity::Workload workload;
  workload.share = workload.cgroupPath = "/system.slice/analytics.service";
  workload.unit = "analytics.service";
  for (auto _ : state) {
    tally.Add(workload, {.cluster = "main", .topic = "clickstream", .file = "/etc/kveil/policies/clickstream.json"},
              {.records = 1});
  }
}
BENCHMARK(BM_Tell);

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
