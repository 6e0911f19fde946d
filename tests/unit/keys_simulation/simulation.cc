// What is where at first, and in which order everything ends.
#include "simulation.h"

#include <sys/random.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "base/text.h"
#include "simulated_calls.h"

namespace {

// Of the simulation that runs now.
kveil::keys::Random* g_random = nullptr;

}  // namespace

// Takes the place of the C library's: keys and ids are the same for the same seed, too.
extern "C" ssize_t getrandom(void* out, size_t size, unsigned /*flags*/) {
  auto* bytes = static_cast<uint8_t*>(out);
  static kveil::keys::Random fallback(0);
  kveil::keys::Random& random = g_random != nullptr ? *g_random : fallback;
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(random.Next());
  return static_cast<ssize_t>(size);
}

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How long all may take after the last fault: leases of turns are 30 s.
constexpr seconds kHealing{150};
// In every so-manieth seed, KEKs are rotated, and their older versions disabled.
constexpr uint64_t kRotatingSeeds = 10;
// In every so-manieth seed, time goes on until what was wrapped before a turn can be unwrapped no more: ten minutes.
constexpr uint64_t kQuietSeeds = 50;
constexpr std::chrono::minutes kQuiet{12};

}  // namespace

std::string ShortText(const KeyRef& ref) {
  const std::string text = absl::StrFormat("%02x%02x", ref.id.bytes[0], ref.id.bytes[1]);
  return ref.kek.has_value() ? StrCat(text, "+", ShortText(*ref.kek)) : text;
}

Simulation::Counts& Simulation::Counts::operator+=(const Counts& other) {
  sealed += other.sealed;
  opened += other.opened;
  underKeks += other.underKeks;
  mixed += other.mixed;
  erasures += other.erasures;
  complete += other.complete;
  readmissions += other.readmissions;
  turns += other.turns;
  givenUp += other.givenUp;
  changes += other.changes;
  faults += other.faults;
  return *this;
}

Simulation::Simulation(Options options)
    : options_(options),
      random_(options.seed * 0x9E3779B97F4A7C15 + 1),
      server_(scheduler_, random_, {random_.Below(60), random_.Below(12), random_.Below(500)}),
      chaosEnds_(random_.Between(seconds(10), seconds(40))),
      mayLose_(random_.Percent(20)),
      mayJump_(random_.Percent(50)),
      mayDamage_(random_.Percent(25)),
      mayLoseKek_(random_.Percent(15)),
      afterErasureNewKey_(random_.Percent(50)),
      world_{scheduler_,
             random_,
             server_,
             keks_,
             std::make_shared<SimulatedRootKey::Shared>(),
             seconds(1 + random_.Below(4)),
             seconds(3 + random_.Below(20)),
             [this](SimulatedAgent& agent, KeyCache& cache) { Work(agent, cache); },
             [this](const std::string& why) { Fail(why); }} {
  server_.onDone = [this] { Look(); };
  for (size_t user = 0; user < kUsers; ++user) {
    User& one = users_.emplace_back();
    one.name = StrCat("user-", user);
    one.keyspace = user % 3 == 0 ? "orders" : "clicks";
  }
  topics_ = {{"topic-0", std::nullopt}, {"topic-1", "kek-a"}, {"topic-2", "kek-a"}, {"topic-3", "kek-b"}};
  static_assert(kTopics == 4);
  topicsOfUsers_ = {{"users-0", std::nullopt}, {"users-1", "kek-a"}, {"users-2", "kek-b"}};
}

Simulation::~Simulation() = default;

void Simulation::Note(uint64_t what) {
  digest_ = (digest_ ^ what ^ static_cast<uint64_t>(scheduler_.now().count())) * 0x9E3779B97F4A7C15;
}

void Simulation::Fail(const std::string& what) {
  Trace("FAILED: ", what);
  if (!failure_.has_value()) failure_ = absl::StrFormat("at %d us: %s", scheduler_.now().count(), what);
  isOver_ = true;
}

std::optional<std::string> Simulation::Run() {
  g_random = &random_;
  RunCallsOn(&scheduler_);
  for (const char* kek : {"kek-a", "kek-b"}) keks_.keys[kek].versions.push_back(crypto::SecretKey::Random());
  for (size_t node = 0; node < nodes_.size(); ++node) {
    nodes_[node].number = static_cast<int>(node) + 1;
    agents_.push_back(SimulatedAgent::Start(world_, nodes_[node]));
  }
  scheduler_.Spawn([this] { BringUsers(); });
  scheduler_.Spawn([this] { EraseUsers(); });
  scheduler_.Spawn([this] { ReadmitUsers(); });
  scheduler_.Spawn([this] { TurnEpochs(); });
  scheduler_.Spawn([this] { ChangeUsers(); });
  scheduler_.Spawn([this] { MendRows(); });
  scheduler_.Spawn([this] { MakeFaults(); });
  scheduler_.Spawn([this] { MakeKekFaults(); });
  while (scheduler_.now() < chaosEnds_ && !failure_.has_value()) {
    scheduler_.RunUntil(scheduler_.now() + milliseconds(100));
  }
  Heal();
  const Time end = scheduler_.now() + kHealing;
  scheduler_.RunUntil(scheduler_.now() + seconds(2) + (mayLoseKek_ ? world_.cacheTtl : seconds(0)));
  while (!isDone() && scheduler_.now() < end && !failure_.has_value()) {
    scheduler_.RunUntil(scheduler_.now() + milliseconds(500));
  }
  if (!isDone()) Fail(StrCat("an erasure or a turn does not end: ", StateOfAll()));
  if (options_.seed % kRotatingSeeds == 0) {
    scheduler_.Spawn([this] { RotateKeks(); });
    for (int time = 0; time < 300 && !areKeksRotated_ && !failure_.has_value(); ++time) {
      scheduler_.RunUntil(scheduler_.now() + seconds(1));
    }
    if (!areKeksRotated_) Fail("KEKs are not rotated");
  }
  isLast_ = true;
  OpenEverywhere();
  if (options_.seed % kQuietSeeds == 0) {
    Trace("nothing happens until the root key's copies have forgotten");
    scheduler_.RunUntil(scheduler_.now() + kQuiet);
    for (size_t node = 0; node < nodes_.size(); ++node) Restart(node, /*inOrder=*/true);
    scheduler_.RunUntil(scheduler_.now() + seconds(5));
    OpenEverywhere();
  }
  isOver_ = true;
  for (const auto& agent : agents_) agent->Stop();
  if (!scheduler_.RunToTheEnd(1'000'000)) Fail("an agent does not end");
  if (const absl::Status status = server_.tables.Check(); !status.ok()) Fail(status.ToString());
  RunCallsOn(nullptr);
  g_random = nullptr;
  return failure_;
}

bool Simulation::isDone() const {
  const bool isErased = std::none_of(users_.begin(), users_.end(), [](const User& user) { return user.isWanted; });
  return isErased && damaged_.empty() && server_.tables.ReadEpochs(false, 0).size() == 1;
}

void Simulation::OpenEverywhere() {
  ++lastRound_;
  opened_ = 0;
  const Time end = scheduler_.now() + std::chrono::minutes(10);  // there may be some hundred records
  const size_t workers = nodes_.size() * SimulatedAgent::kWorkers;
  while (opened_ < workers && scheduler_.now() < end && !failure_.has_value()) {
    scheduler_.RunUntil(scheduler_.now() + milliseconds(500));
  }
  if (opened_ < workers) Fail(StrCat("not all agents answer: ", StateOfAll()));
}

std::string Simulation::StateOfAll() const {
  std::string text;
  for (const User& user : users_) {
    if (user.isWanted) StrAppend(&text, user.name, " is not erased; ");
  }
  if (!damaged_.empty()) StrAppend(&text, damaged_.size(), " damaged rows; ");
  for (const Registry::Epoch& epoch : server_.tables.ReadEpochs(false, server_.WallNow())) {
    StrAppend(&text, "epoch ", epoch.number, epoch.isUsed ? "" : " not used", "; ");
  }
  for (const Registry::Agent& agent : server_.tables.ReadAgents(server_.WallNow())) {
    StrAppend(&text, agent.name, " confirmed ", agent.confirmed, " epoch ", agent.epoch, " seen ",
              agent.lastSeen.count(), " ms ago; ");
  }
  for (const auto& agent : agents_) StrAppend(&text, agent->name(), ": ", agent->Health(), "; ");
  return text;
}

}  // namespace kveil::keys
