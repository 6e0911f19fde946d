#include "simulation.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "base/text.h"
#include "keys/service/erasure_spread.h"

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

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kUsers = 10;
// How long a worker waits for its keys.
constexpr seconds kWorkerPatience{5};
// How long all may take after the last fault: leases of turns are 30 s.
constexpr seconds kHealing{150};

std::string VersionText(int version) { return StrCat("version ", version); }

int VersionOf(const users::UserFacts* facts) {
  if (facts == nullptr) return 0;
  for (const auto& [name, value] : facts->attributes) {
    if (name == "state") return std::stoi(value.substr(8));
  }
  return 0;
}

std::string Hex(const crypto::KeyId& id) { return absl::StrFormat("%02x%02x", id.bytes[0], id.bytes[1]); }

}  // namespace

Simulation::Simulation(Options options)
    : options_(options),
      random_(options.seed * 0x9E3779B97F4A7C15 + 1),
      server_(scheduler_, random_, {random_.Below(60), random_.Below(12), random_.Below(500)}),
      chaosEnds_(random_.Between(seconds(10), seconds(40))),
      mayLose_(random_.Percent(20)),
      mayJump_(random_.Percent(50)),
      world_{scheduler_,
             random_,
             server_,
             std::make_shared<SimulatedRootKey::Shared>(),
             seconds(1 + random_.Below(4)),
             [this](SimulatedAgent& agent, KeyCache& cache) { Work(agent, cache); },
             [this](const std::string& why) { Fail(why); }} {
  server_.onDone = [this] { Look(); };
  for (size_t user = 0; user < kUsers; ++user) {
    users_.push_back({StrCat("user-", user), user % 3 == 0 ? "orders" : "clicks", false, std::nullopt, {}, 0, {}});
  }
}

Simulation::~Simulation() = default;

template <typename... Parts>
void Simulation::Trace(const Parts&... parts) {
  if (!options_.isTraced) return;
  const std::string text = StrCat(parts...);
  std::printf("%10.6f %s\n", static_cast<double>(scheduler_.now().count()) / 1e6, text.c_str());
}

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
  for (size_t node = 0; node < nodes_.size(); ++node) {
    nodes_[node].number = static_cast<int>(node) + 1;
    agents_.push_back(SimulatedAgent::Start(world_, nodes_[node]));
  }
  scheduler_.Spawn([this] { EraseUsers(); });
  scheduler_.Spawn([this] { TurnEpochs(); });
  scheduler_.Spawn([this] { ChangeUsers(); });
  scheduler_.Spawn([this] { MakeFaults(); });
  while (scheduler_.now() < chaosEnds_ && !failure_.has_value()) {
    scheduler_.RunUntil(scheduler_.now() + milliseconds(100));
  }
  Trace("no more faults");
  server_.HealForGood();
  server_.Start();
  for (size_t node = 0; node < nodes_.size(); ++node) {
    nodes_[node].link.isCut = false;
    if (agents_[node]->isLeaving()) Restart(node, /*inOrder=*/true);
  }
  const auto isDone = [this] {
    const bool isErased = std::none_of(users_.begin(), users_.end(), [](const User& user) { return user.isWanted; });
    return isErased && server_.tables.ReadEpochs(false, 0).size() == 1;
  };
  const Time end = scheduler_.now() + kHealing;
  scheduler_.RunUntil(scheduler_.now() + seconds(2));
  while (!isDone() && scheduler_.now() < end && !failure_.has_value()) {
    scheduler_.RunUntil(scheduler_.now() + milliseconds(500));
  }
  if (!isDone()) Fail(StrCat("an erasure or a turn does not end: ", StateOfAll()));
  isLast_ = true;
  OpenEverywhere();
  isOver_ = true;
  for (const auto& agent : agents_) agent->Stop();
  if (!scheduler_.RunToTheEnd(1'000'000)) Fail("an agent does not end");
  if (const absl::Status status = server_.tables.Check(); !status.ok()) Fail(status.ToString());
  g_random = nullptr;
  return failure_;
}

void Simulation::OpenEverywhere() {
  ++lastRound_;
  opened_ = 0;
  const Time end = scheduler_.now() + std::chrono::minutes(5);  // there may be some hundred records
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

// --- the oracle

// After each request that the server has done.
void Simulation::Look() {
  for (Sealed& record : sealed_) {
    if (record.erased.has_value() || record.lost.has_value() || record.isThrowAway) continue;
    if (!server_.tables.IsErased(record.id)) continue;
    record.erased = scheduler_.now();
    Trace("the server has erased key ", Hex(record.id), " of ", users_[record.user].name);
  }
}

Simulation::Sealed* Simulation::FindRecord(const crypto::KeyId& id) {
  const auto found = std::find_if(sealed_.begin(), sealed_.end(), [&](const Sealed& one) { return one.id == id; });
  return found == sealed_.end() ? nullptr : &*found;
}

void Simulation::OnSealed(const SimulatedAgent& agent, size_t number, const CachedKey& key,
                          const users::UserFacts* facts) {
  User& user = users_[number];
  ++counts_.sealed;
  Note(key.id.bytes[0]);
  Sealed* record = FindRecord(key.id);
  if (record == nullptr) {
    Trace(agent.name(), " seals for ", user.name, " with a new key ", Hex(key.id),
          key.erasedSubject ? ", thrown away" : "");
    sealed_.push_back({key.id, number, key.erasedSubject, std::nullopt, std::nullopt});
    record = &sealed_.back();
    // Both may have come before it is used for the first time.
    const bool isThere = server_.tables.FindManyById({key.id}).front()->has_value();
    if (!isThere) record->lost = failedOver_;
    if (!key.erasedSubject && server_.tables.IsErased(key.id)) record->erased = scheduler_.now();
  }
  if (record->user != number) return Fail(StrCat("key ", Hex(key.id), " is of two users"));
  if (record->isThrowAway != key.erasedSubject) return Fail(StrCat("key ", Hex(key.id), " is thrown away, and is not"));
  if (record->isThrowAway) {
    // Nobody would ever know what became of the record.
    if (record->lost.has_value() && scheduler_.now() > *record->lost + world_.cacheTtl) {
      Fail(StrCat(agent.name(), " seals for ", user.name, " with ", Hex(key.id), ", which the registry does not know"));
    }
    return;
  }
  if (!record->lost.has_value()) {
    if (user.keyId.has_value() && *user.keyId != key.id) {
      return Fail(
          StrCat(agent.name(), " seals for ", user.name, " with ", Hex(key.id), ", and the key is ", Hex(*user.keyId)));
    }
    user.keyId = key.id;
  }
  OnOpened(agent, *record, facts);
}

// Whoever has a key seals and opens with it.
void Simulation::OnOpened(const SimulatedAgent& agent, Sealed& record, const users::UserFacts* facts) {
  ++counts_.opened;
  const User& user = users_[record.user];
  const Time now = scheduler_.now();
  const std::string what = StrCat(agent.name(), " has key ", Hex(record.id), " of ", user.name);
  const Time ttl = world_.cacheTtl;
  if (record.isThrowAway) return Fail(StrCat(what, ", which was thrown away"));
  for (const auto& [since, how] : {std::pair(record.erased, "was erased"), std::pair(record.lost, "was lost")}) {
    if (since.has_value() && now > *since + ttl) {
      return Fail(StrCat(what, " which ", how, " ", (now - *since).count(), " us ago"));
    }
  }
  for (const Report& report : user.reports) {
    if (report.isComplete) {
      return Fail(StrCat(what, ", whose erasure was reported as complete ", (now - report.time).count(), " us ago"));
    }
    const auto bound = report.bound.find(agent.name());
    if (bound == report.bound.end()) return Fail(StrCat(what, ", and an erasure's report does not name the agent"));
    if (now >= bound->second) return Fail(StrCat(what, ", and an erasure's report says that it has not"));
  }
  CheckFacts(agent, user, facts);
}

void Simulation::CheckFacts(const SimulatedAgent& agent, const User& user, const users::UserFacts* facts) {
  const int version = VersionOf(facts);
  int least = user.told;
  for (const auto& [since, known] : user.known) {
    if (scheduler_.now() > since + world_.cacheTtl) least = std::max(least, known);
  }
  if (version < least) {
    Fail(StrCat(agent.name(), " goes by version ", version, " of what is known of ", user.name, ", and ", least,
                " has to have reached it"));
  }
}

// --- workers

void Simulation::Work(SimulatedAgent& agent, KeyCache& cache) {
  int openedInRound = 0;
  while (!agent.isLeaving()) {
    // Some are busy with something else for a long time. An idle one refreshes its cache four times a second.
    const bool isSlow = isLast_ || (isChaos() && random_.PerMille(5));
    const Time pause =
        isSlow ? random_.Between(milliseconds(250), seconds(4)) : random_.Between(milliseconds(1), milliseconds(250));
    scheduler_.SleepUntil(scheduler_.now() + pause);
    if (agent.isLeaving()) return;
    if (isLast_ && openedInRound < lastRound_) {
      const int round = openedInRound = lastRound_;
      if (OpenAll(agent, cache) && round == lastRound_) ++opened_;
      continue;
    }
    const uint64_t choice = random_.Below(10);
    if (choice == 0 || isLast_) {
      cache.Refresh();
    } else if (choice < 5 || sealed_.empty()) {
      Seal(agent, cache, random_.Below(kUsers));
    } else {
      // Mostly what is younger: of those that are erased now.
      const size_t age = std::min(random_.Below(sealed_.size()), random_.Below(sealed_.size()));
      Open(agent, cache, sealed_.size() - 1 - age);
    }
  }
}

// False: they have not come.
bool Simulation::FetchInto(SimulatedAgent& agent, KeyCache& cache, Misses misses) {
  struct State {
    std::optional<FetchResult> result;
    Scheduler::Signal signal;
  };
  const auto state = std::make_shared<State>();
  const Time end = scheduler_.now() + kWorkerPatience;
  cache.Fetch(std::move(misses), "app", [this, state](FetchResult result) {
    state->result = std::move(result);
    scheduler_.Notify(state->signal);
  });
  while (!state->result.has_value() && scheduler_.now() < end && !agent.isLeaving()) {
    scheduler_.Wait(state->signal, std::min<Time>(end, scheduler_.now() + seconds(1)));
  }
  if (!state->result.has_value() || agent.isLeaving()) return false;
  // The worker may be busy when the answer comes.
  if (random_.Percent(20))
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(microseconds(1), milliseconds(900)));
  if (agent.isLeaving()) return false;
  (void)cache.Deliver(*std::move(state->result));
  return true;
}

void Simulation::Seal(SimulatedAgent& agent, KeyCache& cache, size_t number) {
  const User& user = users_[number];
  const ScopeName name{Scope::kUser, user.keyspace, user.name};
  cache.Refresh();
  CachedKey* key = cache.FindForSealing(name);
  if (key == nullptr) {
    Misses misses;
    misses.scopes.emplace_back(name);
    if (!FetchInto(agent, cache, std::move(misses))) return;
    key = cache.FindForSealing(name);
  }
  if (key != nullptr) OnSealed(agent, number, *key, cache.FactsOf(*key));
}

void Simulation::Open(SimulatedAgent& agent, KeyCache& cache, size_t number) {
  const crypto::KeyId id = sealed_[number].id;
  cache.Refresh();
  KeyCache::Found found = cache.FindById(id);
  if (found.state == KeyCache::State::kNotCached) {
    Misses misses;
    misses.ids.push_back(id);
    if (!FetchInto(agent, cache, std::move(misses))) return;
    found = cache.FindById(id);
  }
  Sealed& record = sealed_[number];
  Note(static_cast<uint64_t>(found.state));
  const std::string what = StrCat(agent.name(), " finds key ", Hex(id), " of ", users_[record.user].name);
  switch (found.state) {
    case KeyCache::State::kReady:
      return OnOpened(agent, record, cache.FactsOf(*found.key));
    case KeyCache::State::kErased:
      // A cache may remember for a while what a failover has undone.
      if (!record.isThrowAway && !record.erased.has_value() && !record.lost.has_value() &&
          (failedOver_ == Time(0) || scheduler_.now() > failedOver_ + world_.cacheTtl)) {
        Fail(StrCat(what, " erased, and nobody has erased it"));
      }
      return;
    case KeyCache::State::kUnknown:
      if (!record.lost.has_value()) Fail(StrCat(what, " unknown"));
      return;
    case KeyCache::State::kDamaged:
      return Fail(StrCat(what, " damaged"));
    case KeyCache::State::kNotCached:
      return;
  }
}

// Nobody is lost: whoever was not erased is read everywhere.
bool Simulation::OpenAll(SimulatedAgent& agent, KeyCache& cache) {
  for (size_t number = 0; number < sealed_.size() && !agent.isLeaving(); ++number) {
    const Sealed record = sealed_[number];
    if (record.lost.has_value()) continue;
    KeyCache::State state = KeyCache::State::kNotCached;
    for (int attempt = 0; attempt < 5 && state == KeyCache::State::kNotCached; ++attempt) {
      Open(agent, cache, number);
      state = cache.FindById(record.id).state;
    }
    if (agent.isLeaving()) return false;
    const bool isErased = record.isThrowAway || record.erased.has_value();
    if (state != (isErased ? KeyCache::State::kErased : KeyCache::State::kReady)) {
      Fail(StrCat(agent.name(), " does not find key ", Hex(record.id), " of ", users_[record.user].name,
                  " in the end: ", static_cast<int>(state)));
    }
  }
  return !agent.isLeaving();
}

// --- operators

std::shared_ptr<SimulatedAgent> Simulation::SomeAgent() { return agents_[random_.Below(agents_.size())]; }

void Simulation::EraseUsers() {
  scheduler_.SleepUntil(random_.Between(seconds(0), seconds(3)));
  while (!isOver_) {
    // At the end, those whose erasure was not finished.
    const auto wanted = std::find_if(users_.begin(), users_.end(), [](const User& user) { return user.isWanted; });
    size_t user = static_cast<size_t>(wanted - users_.begin());
    if (wanted == users_.end() || (isChaos() && random_.Percent(50))) {
      if (!isChaos()) return;
      user = random_.Below(kUsers);
    }
    users_[user].isWanted = true;
    if (EraseUser(user)) users_[user].isWanted = false;
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), isChaos() ? seconds(3) : seconds(1)));
  }
}

// As the command erases. False: it has to be repeated.
bool Simulation::EraseUser(size_t number) {
  const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
  const std::string name = users_[number].name;
  const uint64_t timeline = server_.timeline();
  ++counts_.erasures;
  const auto erased = agent->Ask([name](ServiceCore& core) {
    const std::string users[] = {name};
    return core.Erase(1, [&](Keyring& keyring) { return keyring.EraseUsers(std::nullopt, users); });
  });
  Trace(agent->name(), " erases ", name, ": ",
        !erased.has_value() ? "it is gone"
        : erased->ok()      ? "done"
                            : ToStd(erased->status().message()));
  if (!erased.has_value() || !erased->ok()) return false;
  const ErasedUser& one = (*erased)->users.front();
  if (absl::IsNotFound(StatusOf(one))) return true;
  std::optional<milliseconds> patience;
  if (random_.Percent(20)) patience = milliseconds(random_.Below(1000));
  ErasureWait wait(one.number, agent->options(), patience);
  for (;;) {
    const auto read = agent->Ask([](ServiceCore& core) { return core.ReadAgents(); });
    if (!read.has_value()) return false;
    const std::optional<ErasureSpread> spread = wait.Take(*read, true);
    if (!spread.has_value()) {
      scheduler_.SleepUntil(scheduler_.now() + wait.pause());
      continue;
    }
    Trace(agent->name(), " reports the erasure of ", name, spread->isComplete ? " as complete" : " as under way");
    // Another server has taken over: `opening` says so, or what was read is from before.
    if (timeline != server_.timeline() || !spread->opening.has_value()) return false;
    if (spread->opening != (*erased)->opening) return false;
    Report report{scheduler_.now(), spread->isComplete, {}};
    for (const ErasureSpread::Agent& bound : spread->agents) {
      const absl::Duration left = bound.refusesFrom - agent->options().wallNow();
      report.bound[bound.name] = bound.confirmed.has_value()
                                     ? scheduler_.now()
                                     : scheduler_.now() + microseconds(absl::ToInt64Microseconds(left));
    }
    if (spread->isComplete) ++counts_.complete;
    users_[number].reports.push_back(report);
    return spread->isComplete;
  }
}

void Simulation::TurnEpochs() {
  while (isChaos() && !isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(100), seconds(8)));
    if (!isChaos()) return;
    const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
    const auto turned = agent->Ask([](ServiceCore& core) { return core.TurnEpochs(); });
    if (!turned.has_value() || !turned->ok()) continue;
    ++counts_.turns;
    Trace(agent->name(), " begins to turn epoch ", **turned);
  }
}

void Simulation::ChangeUsers() {
  while (isChaos() && !isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), seconds(4)));
    const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
    User& user = users_[random_.Below(kUsers)];
    const int version = ++version_;
    const uint64_t timeline = server_.timeline();
    UserChange change{user.name, user.keyspace, {}};
    change.change.kind = users::FactsChange::Kind::kSet;
    change.change.name = "state";
    change.change.value = VersionText(version);
    const auto changed = agent->Ask([change](ServiceCore& core) { return core.ChangeUsers({&change, 1}, 0); });
    if (!changed.has_value() || !changed->ok() || timeline != server_.timeline()) continue;
    if ((*changed)->outcomes.front() != ChangedUsers::Outcome::kChanged) continue;
    ++counts_.changes;
    Trace(agent->name(), " changes ", user.name, " to version ", version);
    user.known.emplace_back(scheduler_.now(), version);
    ErasureWait wait((*changed)->number, agent->options(), seconds(10));
    for (;;) {
      const auto read = agent->Ask([](ServiceCore& core) { return core.ReadAgents(); });
      if (!read.has_value()) break;
      const std::optional<ErasureSpread> spread = wait.Take(*read, true);
      if (!spread.has_value()) {
        scheduler_.SleepUntil(scheduler_.now() + wait.pause());
        continue;
      }
      const bool isSame = timeline == server_.timeline() && spread->opening == (*changed)->opening;
      if (spread->isComplete && isSame) {
        Trace("version ", version, " of ", user.name, " is everywhere");
        user.told = std::max(user.told, version);
      }
      break;
    }
  }
}

// --- faults

void Simulation::MakeFaults() {
  const Time longest = random_.Between(milliseconds(200), seconds(6));
  while (!isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), longest));
    if (!isChaos()) return;
    ++counts_.faults;
    MakeFault();
  }
}

void Simulation::MakeFault() {
  const uint64_t kind = random_.Below(100);
  const size_t number = random_.Below(nodes_.size());
  Node& node = nodes_[number];
  const auto later = [this](Time longest) { return scheduler_.now() + random_.Between(milliseconds(1), longest); };
  if (kind < 35) {
    Trace("node-", node.number, " is cut off");
    node.link.isCut = true;
    scheduler_.At(later(seconds(8)), [this, &node] {
      Trace("node-", node.number, " is connected again");
      node.link.isCut = false;
    });
  } else if (kind < 50) {
    Trace("the server stops");
    server_.Stop();
    scheduler_.At(later(seconds(5)), [this] {
      Trace("the server starts");
      server_.Start();
    });
  } else if (kind < 75) {
    Restart(number, /*inOrder=*/random_.Percent(30));
  } else if (kind < 85 && mayJump_) {
    node.wallOffset += random_.Between(-std::chrono::hours(48), std::chrono::hours(48));
    Trace("node-", node.number, "'s clock on the wall jumps");
  } else if (kind < 90 && mayJump_) {
    // Less than the time that agents are known for, see Registry::kAgentsKept.
    server_.wallOffset = random_.Between(-std::chrono::minutes(25), std::chrono::minutes(25));
    Trace("the server's clock on the wall jumps");
  } else if (kind < 95 && mayLose_) {
    if (!server_.tables.ReadIdentity().has_value()) return;
    standby_ = server_.tables;
    scheduler_.At(later(seconds(3)), [this] { FailOver(); });
  } else if (kind < 97) {
    Trace("another server takes over, which has lost nothing");
    server_.FailOver(server_.tables);
  }
}

void Simulation::Restart(size_t number, bool inOrder) {
  Trace(agents_[number]->name(), inOrder ? " ends" : " is killed");
  if (inOrder) {
    agents_[number]->Stop();
  } else {
    agents_[number]->Kill();
  }
  const Time pause = isChaos() ? random_.Between(microseconds(0), seconds(5)) : Time(0);
  // Not twice.
  const std::shared_ptr<SimulatedAgent> before = agents_[number];
  scheduler_.At(scheduler_.now() + pause, [this, number, before] {
    if (agents_[number] != before || isOver_) return;
    agents_[number] = SimulatedAgent::Start(world_, nodes_[number]);
    Trace(agents_[number]->name(), " starts");
  });
}

void Simulation::FailOver() {
  if (!isChaos()) return;
  Trace("another server takes over, which has lost the last moments");
  if (random_.Percent(50)) ++standby_.file;
  server_.FailOver(standby_);
  failedOver_ = scheduler_.now();
  for (Sealed& record : sealed_) {
    if (record.lost.has_value()) continue;
    const std::vector<Registry::Found> found = server_.tables.FindManyById({record.id});
    if (!(*found.front()).has_value()) {
      record.lost = scheduler_.now();
      record.erased.reset();
    } else if (!(*found.front())->erased) {
      record.erased.reset();
    }
  }
  for (User& user : users_) {
    const Sealed* const record = user.keyId.has_value() ? FindRecord(*user.keyId) : nullptr;
    if (record == nullptr || !record->erased.has_value()) user.reports.clear();
    if (record != nullptr && record->lost.has_value()) user.keyId.reset();
    user.told = 0;
    user.known.clear();
  }
}

}  // namespace kveil::keys
