// What the workers of agents do: they seal for users and topics, and open what was sealed.
#include <algorithm>

#include "simulation.h"

namespace kveil::keys {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// How long a worker waits for its keys.
constexpr seconds kWorkerPatience{5};
// A key under a KEK comes when its provider has answered: a worker asks so often.
constexpr int kAttempts = 3;
// In the end, providers that refused are asked again after a quarter of a minute at most.
constexpr int kLastAttempts = 60;

}  // namespace

OwnedScopeName Simulation::NameOf(const User& user, const Topic& topic) const {
  const std::optional<std::string>& kek = topic.kek;
  OwnedScopeName name(Scope::kUser, kek.has_value() ? KeyspaceUnder(user.keyspace, {"hsm", *kek}) : user.keyspace,
                      user.name);
  name.readmits = afterErasureNewKey_ && user.keyspace == "orders";
  return name;
}

const Simulation::Topic& Simulation::SomeTopicOfUsers() { return topicsOfUsers_[random_.Below(topicsOfUsers_.size())]; }

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
    const uint64_t choice = random_.Below(20);
    if (choice < 2 || isLast_) {
      cache.Refresh();
    } else if (choice < 4) {
      SealForTopic(agent, cache, random_.Below(kTopics));
    } else if (choice < 10 || sealed_.empty()) {
      SealForUser(agent, cache, random_.Percent(40) ? hot_ : random_.Below(usersHere_), SomeTopicOfUsers());
    } else {
      (void)Open(agent, cache, SomeRecord());
    }
  }
}

// Mostly what is younger, and of the user whom everybody looks at: of those that are erased now.
size_t Simulation::SomeRecord() {
  const size_t age = std::min(random_.Below(sealed_.size()), random_.Below(sealed_.size()));
  size_t number = sealed_.size() - 1 - age;
  for (size_t i = 0; i < 20 && random_.Percent(80); ++i) {
    if (sealed_[number].user == hot_ && !sealed_[number].isThrowAway) break;
    number = random_.Below(sealed_.size());
  }
  return number;
}

// As of other records of a batch.
void Simulation::AddOthers(Misses& misses) {
  while (random_.Percent(30)) {
    if (random_.Percent(50)) {
      misses.scopes.push_back(NameOf(users_[random_.Below(usersHere_)], SomeTopicOfUsers()));
    } else if (!sealed_.empty()) {
      misses.ids.push_back(sealed_[SomeRecord()].ref());
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
  if (random_.Percent(20)) {
    const Time most = random_.Percent(20) ? seconds(5) : milliseconds(900);
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(microseconds(1), most));
  }
  if (agent.isLeaving()) return false;
  if (const auto unheard = unheard_.find(agent.name());
      unheard != unheard_.end() && agent.timeline() < server_.timeline()) {
    for (const FetchResult::ByScope& found : state->result->scopes) unheard->second.insert(found.key.id.bytes);
    for (const FetchResult::ById& found : state->result->ids) unheard->second.insert(found.id.bytes);
  }
  const auto note = [this](const ScopeKey& key) {
    if (key.scope == Scope::kUser && key.kek.has_value()) mixed_[key.id.bytes].insert(key.kek->id.bytes);
  };
  for (const FetchResult::ByScope& found : state->result->scopes) note(found.key);
  for (const FetchResult::ById& found : state->result->ids) note(found.key);
  (void)cache.Deliver(*std::move(state->result));
  return true;
}

CachedKey* Simulation::KeyFor(SimulatedAgent& agent, KeyCache& cache, const OwnedScopeName& name) {
  cache.Refresh();
  CachedKey* key = cache.FindForSealing(name.view());
  const int attempts = name.scope == Scope::kTopic || KekOf(name.view()).has_value() ? kAttempts : 1;
  for (int attempt = 0; key == nullptr && attempt < attempts; ++attempt) {
    if (attempt > 0) scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), milliseconds(500)));
    Misses misses;
    misses.scopes.push_back(name);
    AddOthers(misses);
    if (agent.isLeaving() || !FetchInto(agent, cache, std::move(misses))) return nullptr;
    key = cache.FindForSealing(name.view());
  }
  return key;
}

// By the policy that is in force when it begins.
void Simulation::SealForUser(SimulatedAgent& agent, KeyCache& cache, size_t number, const Topic& topic) {
  Sealed sealed{.owner = users_[number].name, .user = number, .kek = topic.kek};
  const CachedKey* const key = KeyFor(agent, cache, NameOf(users_[number], topic));
  if (key != nullptr) OnSealed(agent, std::move(sealed), *key);
}

void Simulation::SealForTopic(SimulatedAgent& agent, KeyCache& cache, size_t number) {
  const Topic topic = topics_[number];
  const std::string keyspace = topic.kek.has_value() ? KeyspaceUnder("cluster", {"hsm", *topic.kek}) : "cluster";
  const CachedKey* const key = KeyFor(agent, cache, {Scope::kTopic, keyspace, topic.name});
  if (key == nullptr) return;
  OnSealed(agent, {.owner = topic.name, .kek = topic.kek}, *key);
}

KeyCache::State Simulation::Open(SimulatedAgent& agent, KeyCache& cache, size_t number) {
  using State = KeyCache::State;
  const KeyRef ref = sealed_[number].ref();
  cache.Refresh();
  KeyCache::Found found = cache.FindById(ref);
  if (found.state == State::kNotCached) {
    Misses misses;
    misses.ids.push_back(ref);
    if (!isLast_) AddOthers(misses);
    if (!FetchInto(agent, cache, std::move(misses))) return State::kNotCached;
    found = cache.FindById(ref);
  }
  const Sealed& record = sealed_[number];
  Note(static_cast<uint64_t>(found.state));
  const std::string what = StrCat(agent.name(), " finds key ", ShortText(ref), " of ", record.owner);
  switch (found.state) {
    case State::kReady:
      OnOpened(agent, record, *found.key);
      break;
    case State::kErased:
      // A cache may remember for a while what a failover has undone.
      if (!record.isThrowAway && !record.erased.has_value() && !record.lost.has_value() &&
          (failedOver_ == Time(0) || scheduler_.now() > failedOver_ + world_.cacheTtl)) {
        Fail(StrCat(what, " erased, and nobody has erased it"));
      }
      break;
    case State::kUnknown:
      if (!record.lost.has_value()) Fail(StrCat(what, " unknown"));
      break;
    case State::kDamaged:
      if (!wereDamaged_.contains(record.id.bytes)) Fail(StrCat(what, " damaged"));
      break;
    case State::kNotCached:
      break;
  }
  return found.state;
}

// Nobody is lost: whoever was not erased is read everywhere.
bool Simulation::OpenAll(SimulatedAgent& agent, KeyCache& cache) {
  using State = KeyCache::State;
  for (size_t number = 0; number < sealed_.size() && !agent.isLeaving(); ++number) {
    if (sealed_[number].lost.has_value()) continue;
    const State expected = StateInTheEnd(sealed_[number]);
    // A key under a KEK that is lost never comes, and nobody waits for that.
    const int attempts = expected == State::kNotCached ? 1 : (sealed_[number].kek.has_value() ? kLastAttempts : 5);
    State state = Open(agent, cache, number);
    // That a row was damaged is remembered for a second.
    const auto isOpen = [&] { return state == State::kNotCached || (state != expected && state == State::kDamaged); };
    for (int attempt = 1; attempt < attempts && isOpen() && !agent.isLeaving(); ++attempt) {
      if (sealed_[number].kek.has_value() || state == State::kDamaged) {
        scheduler_.SleepUntil(scheduler_.now() + milliseconds(500));
      }
      if (!agent.isLeaving()) state = Open(agent, cache, number);
    }
    if (agent.isLeaving()) return false;
    if (state != expected) {
      Fail(StrCat(agent.name(), " does not find key ", ShortText(sealed_[number].ref()), " of ", sealed_[number].owner,
                  " in the end: ", static_cast<int>(state), ", ", agent.Health()));
    }
  }
  return !agent.isLeaving();
}

}  // namespace kveil::keys
