// What rules (`where`) add to opening records, and what a record costs that they deny. Batches of 1300 records of 100
// bytes, each of any of 1000 users, whose keys are all in the worker's cache. `per_record` is a record's time.
//
//   build/release/rules_bench
//
// Argument: entries of `read`. 0: one without a `where`. All fit the reader; the record meets the last of them, or
// none.
#include <benchmark/benchmark.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "guard/worker/listed_users.h"
#include "sealing.h"

namespace kveil::guard {
namespace {

constexpr size_t kValueSize = 100;
constexpr uint32_t kUsers = 1000;

std::string Entries(int64_t count, const std::function<std::string(int64_t)>& where) {
  if (count == 0) return R"([{"any": true}])";
  std::string list;
  for (int64_t i = 0; i < count; ++i) list += (i == 0 ? "" : ",") + (R"({"any": true, "where": )" + where(i)) + "}";
  return "[" + list + "]";
}

void Measure(
    benchmark::State& state, const std::string& read, Node::FactsOf factsOf = [](size_t) { return nullptr; }) {
  Node node(true, read, std::move(factsOf));
  uint32_t random = 1;
  const ByteBuffer produced = ProducedBatch({.count = kUsers}, kValueSize, random);
  ByteBuffer sealed;
  SealFetching(node, produced, sealed);
  sealed.reserve(sealed.size() + kafka::kTailPadding);
  ByteBuffer out;
  OpenOutcome outcome = Open(node, sealed, out);
  while (outcome.kind == OpenOutcome::Kind::kNeeds) {
    node.Fetch(std::move(outcome.needs));
    outcome = Open(node, sealed, out);
  }
  for (auto _ : state) {
    if (Open(node, sealed, out).kind != OpenOutcome::Kind::kRewritten) abort();
  }
  const auto records = static_cast<double>(state.iterations()) * kRecords;
  state.counters["per_record"] = benchmark::Counter(records, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["opened"] = static_cast<double>(outcome.opened);
}

// All users, as a list of JSON strings.
std::string AllUsers() {
  std::string all;
  for (uint32_t user = 0; user < kUsers; ++user)
    all += (user == 0 ? "\"user-" : ",\"user-") + std::to_string(user) + "\"";
  return all;
}

// One user each, and in the last entry all of them: every record is opened.
void BM_UsersRead(benchmark::State& state) {
  const int64_t count = state.range(0);
  Measure(state, Entries(count, [count](int64_t i) {
            const std::string users = i + 1 < count ? "\"none-" + std::to_string(i) + "\"" : AllUsers();
            return R"({"users": [)" + users + "]}";
          }));
}
// Nobody whose records there are.
void BM_UsersDenied(benchmark::State& state) {
  Measure(state,
          Entries(state.range(0), [](int64_t i) { return R"({"users": ["none-)" + std::to_string(i) + "\"]}"; }));
}
// A header that no record has.
void BM_HeaderDenied(benchmark::State& state) {
  Measure(state, Entries(state.range(0), [](int64_t i) {
            return R"({"header": {"name": "region", "equals": "r)" + std::to_string(i) + "\"}}";
          }));
}
// A text in the value, which is opened first. Every record meets the last entry.
void BM_ValueRead(benchmark::State& state) {
  const int64_t count = state.range(0);
  Measure(state, Entries(count, [count](int64_t i) {
            const std::string texts = i + 1 < count ? "\"none-" + std::to_string(i) + "\"" : AllUsers();
            return R"({"value": {"pointer": "/userid", "oneOf": [)" + texts + "]}}";
          }));
}
// The same with expressions that go through all of some 65 bytes. The first matches them, the others do not.
void BM_MatchesRead(benchmark::State& state) {
  Measure(state, Entries(state.range(0), [](int64_t i) {
            const std::string end = i == 0 ? "" : std::string(1, static_cast<char>('a' + i - 1));
            return R"({"value": {"pointer": "/request", "matches": "r+)" + end + "\"}}";
          }));
}

// Every user consents, and the last entry asks for it; the others ask for users of whom there are no records.
std::string ConsentEntries(int64_t count, const std::string& purpose) {
  return Entries(count, [&](int64_t i) {
    return i + 1 < count ? R"({"consent": "research", "users": ["none-)" + std::to_string(i) + "\"]}"
                         : R"({"consent": ")" + purpose + "\"}";
  });
}
users::SharedFacts Consenting() {
  users::UserFacts facts;
  facts.consents = {{.purpose = "marketing"}, {.purpose = "newsletter"}};
  return std::make_shared<const users::UserFacts>(std::move(facts));
}
// All users have granted the same: the registry's rows are told apart by nothing.
void BM_ConsentRead(benchmark::State& state) {
  const users::SharedFacts facts = Consenting();
  Measure(state, ConsentEntries(state.range(0), "marketing"), [&](size_t) { return facts; });
}
// Each of the 1000 users has facts of their own.
void BM_ConsentOfEachRead(benchmark::State& state) {
  Measure(state, ConsentEntries(state.range(0), "marketing"), [](size_t) { return Consenting(); });
}
void BM_ConsentDenied(benchmark::State& state) {
  const users::SharedFacts facts = Consenting();
  Measure(state, ConsentEntries(state.range(0), "research"), [&](size_t) { return facts; });
}

// A policy of 100,000 users in a file, without the first of them or with.
std::shared_ptr<const policy::Policy> ListOfUsers(const std::string& folder, bool isWhole) {
  std::ofstream list(folder + "/users.txt");
  for (uint32_t user = isWhole ? 0 : 1; user < policy::kMostListedUsers; ++user)
    list << "user-" << 100'000 + user << "\n";
  list.close();
  std::ofstream(folder + "/p.json")
      << R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"value": "/userid"}},
      "read": [{"any": true, "where": {"users": {"file": "users.txt"}}}]}]})";
  return *policy::Policy::Load({folder});
}
// What a reload of the policies costs a worker before it opens records for a reader of these users. All keys are in its
// cache. Argument: 0: it has not looked for them before; 1: the list is as it was; 2: it has one more.
void BM_ReloadOfUsers(benchmark::State& state) {
  Node node(true);
  char folder[] = "/tmp/kveil-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) abort();
  const auto before = ListOfUsers(folder, state.range(0) != 2);
  const auto now = ListOfUsers(folder, true);
  std::filesystem::remove_all(folder);
  policy::EntrySet readers;
  readers.Add(0);
  const auto know = [&](ListedUsers& users) {
    for (Needs needs; !users.AreKnown(readers, node.scratch->keyCache, needs); needs = Needs())
      node.Fetch(std::move(needs));
  };
  ListedUsers known(*before->Find("t"), nullptr);
  know(known);
  ListedUsers all(*now->Find("t"), nullptr);
  know(all);
  for (auto _ : state) {
    ListedUsers users(*now->Find("t"), state.range(0) == 0 ? nullptr : &known);
    know(users);
  }
}
BENCHMARK(BM_ReloadOfUsers)->Arg(0)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond);

void Counts(benchmark::internal::Benchmark* benchmark) { benchmark->Arg(0)->Arg(1)->Arg(10)->Arg(1000); }
BENCHMARK(BM_UsersRead)->Apply(Counts);
BENCHMARK(BM_UsersDenied)->Arg(1)->Arg(10)->Arg(1000);
BENCHMARK(BM_HeaderDenied)->Arg(1)->Arg(10)->Arg(1000);
BENCHMARK(BM_ValueRead)->Arg(1)->Arg(10)->Arg(1000);
BENCHMARK(BM_MatchesRead)->Arg(1)->Arg(16);
BENCHMARK(BM_ConsentRead)->Arg(1)->Arg(10)->Arg(1000);
BENCHMARK(BM_ConsentOfEachRead)->Arg(1)->Arg(10)->Arg(1000);
BENCHMARK(BM_ConsentDenied)->Arg(1)->Arg(10)->Arg(1000);

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
