// How cost grows with what clients and policies make more of. Every counter should stay where it is from row to row.
//
//   build/release/growth_bench
//
// BM_Produce: the guard's work for a request whose topics are sealed with a topic's key, a batch of 10 records of 100 B
// per partition; per_partition. Arguments: topics, partitions of each.
// BM_Find: the policy's entry for a topic; its own time. Arguments: entries, and what they are (the label).
// BM_SealSizes, BM_OpenSizes: batches of 1 MiB, of 1,000 users or with a topic's key; per_KiB of the values.
// Arguments: users (0: the topic's key), bytes of a value.
// What users add is in seal_bench.
#include <benchmark/benchmark.h>

#include <array>
#include <fstream>

#include "guard/apis/produce_guard.h"
#include "io/loop.h"
#include "kafka/frame.h"
#include "policy/policy_store.h"
#include "sealing.h"

namespace kveil::guard {
namespace {

constexpr int16_t kVersion = 9;

// A broker that is not asked for anything.
class NoUpstream : public proxy::Upstream {
 public:
  io::Task<absl::StatusOr<Bytes>> Ask(kafka::ApiKey, int16_t, std::optional<std::string_view>,
                                      std::function<void(kafka::FrameWriter&)>) override {
    co_return absl::UnavailableError("there is none");
  }
  bool IsApplicationGone() override { return false; }
};

std::unique_ptr<policy::PolicyStore> StoreOf(const std::string& text) {
  char folder[] = "/tmp/kveil-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) abort();
  std::ofstream(std::string(folder) + "/p.json") << text;
  policy::PolicyStore::Options options;
  options.quiet = std::chrono::hours(1);
  auto store = policy::PolicyStore::Open(folder, std::move(options));
  if (!store.ok()) abort();
  std::filesystem::remove_all(folder);
  return *std::move(store);
}

BrokerDirectory::Options NoBrokers() {
  BrokerDirectory::Options options;
  options.clusterOf = [](uint16_t) { return "main"; };
  options.hasTls = [](uint16_t) { return false; };
  options.targetOf = [](const SocketAddress&) { return std::nullopt; };
  options.lookUp = [](const proxy::ConnectionInfo&, std::vector<std::string>,
                      absl::AnyInvocable<void(BrokerDirectory::Answers)> done) { done({}); };
  options.learn = [](const SocketAddress&, uint16_t, std::chrono::seconds) { return absl::OkStatus(); };
  return options;
}

// One connection's guard, and one request that it gets again and again.
class Producing {
 public:
  Producing(int64_t topics, int64_t partitions) {
    connection_.cluster = "main";
    uint32_t random = 1;
    const ByteBuffer batch = ProducedBatch({.count = 10}, 100, random, 10);
    std::vector<std::string> names;
    for (int64_t i = 0; i < topics; ++i) names.push_back("t" + std::to_string(i));
    kafka::ProduceRequest message;
    message.acks = -1;
    for (const std::string& name : names) {
      kafka::ProduceRequest::Topic& topic = message.topicData.emplace_back();
      topic.name = name;
      for (int64_t i = 0; i < partitions; ++i) {
        topic.partitionData.push_back({.index = static_cast<int32_t>(i), .records = Bytes(batch)});
      }
    }
    kafka::FrameWriter writer;
    kafka::WriteRequestHeader(kafka::ApiKey::kProduce, kVersion, 1, "bench", writer);
    kafka::Encode(message, kVersion, writer);
    frame_ = writer.ToBuffer();
    frame_.reserve(frame_.size() + kafka::kTailPadding);
    request_.frame = frame_;
    request_.header = *kafka::ReadRequestHeader(frame_);
    request_.body = request_.frame.subspan(request_.header.size);
  }

  void Measure(benchmark::State& state) {
    loop_->Spawn(Run(state));
    loop_->Stop();
    loop_->Run();
  }

 private:
  io::Task<void> Run(benchmark::State& state) {
    auto keys = Handle();  // makes the topics' keys
    co_await std::move(keys);
    for (auto _ : state) {
      auto handling = Handle();
      co_await std::move(handling);
    }
  }

  io::Task<void> Handle() {
    proxy::Arena arena(shelf_, budget_);
    kafka::FrameWriter written;
    proxy::FrameOutput output(written, arena);
    auto handling = guard_.OnRequest(request_, upstream_, output);
    const proxy::RequestVerdict verdict = co_await std::move(handling);
    if (verdict.action != proxy::RequestVerdict::Action::kRewrite) abort();
  }

  Node node_{false};
  std::unique_ptr<policy::PolicyStore> policies_ =
      StoreOf(R"({"topics": [{"prefix": "t", "seal": {"scope": "topic"}, "read": [{"any": true}]}]})");
  std::unique_ptr<io::Loop> loop_ = *io::Loop::Create({});
  observe::Metrics metrics_{"bench"};
  BrokerDirectory brokers_{NoBrokers()};
  SharedState shared_{*policies_, metrics_, brokers_, {}};
  proxy::ConnectionInfo connection_;
  ProduceGuard guard_{GuardContext{shared_, *node_.scratch, *loop_, connection_}};
  NoUpstream upstream_;
  proxy::BufferShelf shelf_;
  proxy::MemoryBudget budget_{size_t{512} << 20};
  ByteBuffer frame_;
  proxy::RequestFrame request_;
};

void CountEach(benchmark::State& state, const char* name, double each) {
  state.counters[name] = benchmark::Counter(static_cast<double>(state.iterations()) * each,
                                            benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_Produce(benchmark::State& state) {
  Producing(state.range(0), state.range(1)).Measure(state);
  CountEach(state, "per_partition", static_cast<double>(state.range(0) * state.range(1)));
}
BENCHMARK(BM_Produce)->ArgsProduct({{1}, {1, 10, 100, 1000}})->ArgsProduct({{10, 100, 1000}, {1}});

enum Entries { kNames, kPrefixes, kPatterns };
constexpr std::array kEntryNames{"names", "prefixes", "patterns"};

// Topics that the last entry is for, as one of 1,000, and that none is for.
void MeasureFind(benchmark::State& state, bool isThere) {
  const int64_t count = state.range(0);
  std::string topics;
  for (int64_t i = 0; i < count; ++i) {
    const std::string team = "team-" + std::to_string(i) + ".";
    const std::string selector = state.range(1) == kNames ? R"("name": ")" + team + "orders"
                                 : state.range(1) == kPrefixes
                                     ? R"("prefix": ")" + team
                                     : R"("pattern": "team-)" + std::to_string(i) + R"(\\.(orders|clicks)-v[0-9]+)";
    topics += (i > 0 ? "," : "") + std::string("{") + selector + R"(", "read": [{"any": true}]})";
  }
  const std::vector<std::pair<std::string, std::string>> files = {{"p.json", R"({"topics": [)" + topics + "]}"}};
  const auto policy = *policy::Policy::Parse(files);
  const std::string team = (isThere ? "team-" : "other-") + std::to_string(count - 1) + ".orders";
  std::vector<std::string> names;
  for (int i = 0; i < 100; ++i) names.push_back(state.range(1) == kNames ? team : team + "-v" + std::to_string(i));
  size_t i = 0;
  for (auto _ : state) {
    const policy::TopicPolicy* found = policy->Find(names[i++ % names.size()]);
    if ((found != nullptr) != isThere) abort();
  }
  state.SetLabel(kEntryNames[static_cast<size_t>(state.range(1))]);
}
void BM_Find(benchmark::State& state) { MeasureFind(state, true); }
void BM_FindNone(benchmark::State& state) { MeasureFind(state, false); }
BENCHMARK(BM_Find)->ArgsProduct({{1, 10, 100, 1000}, {kNames, kPrefixes, kPatterns}});
BENCHMARK(BM_FindNone)->ArgsProduct({{1, 10, 100, 1000}, {kPatterns}});

struct Sized {
  explicit Sized(const benchmark::State& state) : node(state.range(0) > 0) {
    const int64_t users = std::max<int64_t>(state.range(0), 1);
    uint32_t random = 1;
    const auto size = static_cast<size_t>(state.range(1));
    produced =
        ProducedBatch({.count = static_cast<uint32_t>(users)}, size, random, static_cast<int32_t>((1 << 20) / size));
    SealFetching(node, produced, sealed);
    sealed.reserve(sealed.size() + kafka::kTailPadding);
  }
  Node node;
  ByteBuffer produced, sealed, out;
};

void BM_SealSizes(benchmark::State& state) {
  Sized sized(state);
  for (auto _ : state) {
    if (Seal(sized.node, sized.produced, sized.out).kind != SealOutcome::Kind::kSealed) abort();
  }
  CountEach(state, "per_KiB", 1024);
}
void BM_OpenSizes(benchmark::State& state) {
  Sized sized(state);
  for (auto _ : state) {
    if (Open(sized.node, sized.sealed, sized.out).kind != OpenOutcome::Kind::kRewritten) abort();
  }
  CountEach(state, "per_KiB", 1024);
}
BENCHMARK(BM_SealSizes)->ArgsProduct({{0, 1000}, {128, 1 << 10, 4 << 10, 16 << 10, 64 << 10}});
BENCHMARK(BM_OpenSizes)->ArgsProduct({{0, 1000}, {128, 1 << 10, 4 << 10, 16 << 10, 64 << 10}});

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
