// What operators and policies bring about: users come, are erased and readmitted, what is known of them changes, epochs
// turn, damaged rows are restored or given up.
#include <algorithm>

#include "keys/service/erasure_spread.h"
#include "simulation.h"

namespace kveil::keys {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::string VersionText(int version) { return StrCat("version ", version); }

template <typename T>
std::string OutcomeOf(const std::optional<absl::StatusOr<T>>& answer) {
  if (!answer.has_value()) return "it is gone";
  return answer->ok() ? "done" : std::string(ToStd(answer->status().message()));
}

}  // namespace

std::shared_ptr<SimulatedAgent> Simulation::SomeAgent() { return agents_[random_.Below(agents_.size())]; }

size_t Simulation::SomeUser() { return random_.Percent(50) ? hot_ : random_.Below(usersHere_); }

// Several agents meet a new user at the same moment.
void Simulation::BringUsers() {
  while (isChaos() && !isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), seconds(3)));
    LearnSubjects(*SomeAgent());
    if (usersHere_ < kUsers && random_.Percent(70)) {
      hot_ = usersHere_++;
    } else {
      hot_ = random_.Below(usersHere_);
    }
  }
}

void Simulation::LearnSubjects(SimulatedAgent& agent) {
  if (users_.front().subject.has_value()) return;
  for (User& user : users_) {
    const auto named = agent.Ask([keyspace = user.keyspace, name = user.name](ServiceCore& core) {
      return core.AskKeyring([&](Keyring& keyring) { return keyring.ReadSubjectsOf(keyspace, name); });
    });
    if (!named.has_value() || !named->ok()) return;
    user.subject = (**named).front().subject;
  }
}

void Simulation::EraseUsers() {
  scheduler_.SleepUntil(random_.Between(seconds(0), seconds(3)));
  while (!isOver_) {
    // At the end, those whose erasure was not finished.
    const auto wanted = std::find_if(users_.begin(), users_.end(), [](const User& user) { return user.isWanted; });
    auto user = static_cast<size_t>(wanted - users_.begin());
    if (wanted == users_.end() || (isChaos() && random_.Percent(50))) {
      if (!isChaos()) return;
      user = SomeUser();
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
  hot_ = number;
  users_[number].wasWanted = true;
  // Often somebody does not hear of it.
  if (isChaos() && random_.Percent(30)) CutOff(nodes_[random_.Below(nodes_.size())]);
  const auto erased = agent->Ask([name](ServiceCore& core) {
    const std::string users[] = {name};
    return core.Erase(1, [&](Keyring& keyring) { return keyring.EraseUsers(std::nullopt, users); });
  });
  Trace(agent->name(), " erases ", name, ": ", OutcomeOf(erased));
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
    Report report{scheduler_.now(), one.number, spread->isComplete, {}};
    for (const ErasureSpread::Agent& bound : spread->agents) {
      const absl::Duration left = bound.refusesFrom - agent->options().wallNow();
      report.bound[bound.name] = bound.confirmed.has_value()
                                     ? scheduler_.now()
                                     : scheduler_.now() + microseconds(absl::ToInt64Microseconds(left));
    }
    if (spread->isComplete) ++counts_.complete;
    users_[number].reports.push_back(report);
    CheckHeld(number, report);
    return spread->isComplete;
  }
}

// The other server may not know who has keys.
void Simulation::EraseAfterFailOver() {
  for (int attempt = 0; attempt < 4 && isChaos() && !isOver_; ++attempt) {
    const size_t user = hot_ = random_.Below(usersHere_);
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), milliseconds(700)));
    users_[user].isWanted = true;
    if (EraseUser(user)) users_[user].isWanted = false;
  }
}

void Simulation::ReadmitUsers() {
  while (isChaos() && !isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), seconds(4)));
    const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
    const User& user = users_[SomeUser()];
    if (!user.subject.has_value()) continue;
    const uint64_t timeline = server_.timeline();
    const int64_t before = server_.tables.LifeOf(*user.subject).readmission;
    const auto answer = agent->Ask([name = user.name](ServiceCore& core) {
      return core.AskKeyring([&](Keyring& keyring) { return keyring.Readmit(std::nullopt, name); });
    });
    Trace(agent->name(), " is told to readmit ", user.name, ": ", OutcomeOf(answer));
    if (!answer.has_value() || !answer->ok() || timeline != server_.timeline()) continue;
    if (!(*answer)->keyspaces.empty() && server_.tables.LifeOf(*user.subject).readmission == before) {
      Fail(StrCat(agent->name(), " says that ", user.name, " was readmitted, and the registry has not done so"));
    }
  }
}

void Simulation::TurnEpochs() {
  while (isChaos() && !isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(100), seconds(8)));
    if (!isChaos()) return;
    if (mayLose_ && random_.Percent(30)) LoseSoon();
    TurnEpoch();
  }
}

bool Simulation::TurnEpoch() {
  const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
  const auto turned = agent->Ask([](ServiceCore& core) { return core.TurnEpochs(); });
  if (!turned.has_value() || !turned->ok()) return false;
  ++counts_.turns;
  Trace(agent->name(), " begins to turn epoch ", **turned);
  return true;
}

// An epoch that was lost comes again, with another key.
void Simulation::TurnAfterFailOver() {
  for (int attempt = 0; attempt < 5 && isChaos() && !isOver_; ++attempt) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), milliseconds(400)));
    if (TurnEpoch()) return;
  }
}

void Simulation::ChangeUsers() {
  while (isChaos() && !isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), seconds(4)));
    const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
    ChangeUser(*agent, users_[SomeUser()]);
  }
}

void Simulation::ChangeUser(SimulatedAgent& agent, User& user) {
  const int version = ++version_;
  const uint64_t timeline = server_.timeline();
  UserChange change{user.name, user.keyspace, {}};
  change.change.kind = users::FactsChange::Kind::kSet;
  change.change.name = "state";
  change.change.value = VersionText(version);
  const auto changed = agent.Ask([change](ServiceCore& core) { return core.ChangeUsers({&change, 1}, 0); });
  if (!changed.has_value() || !changed->ok() || timeline != server_.timeline()) return;
  if ((*changed)->outcomes.front() != ChangedUsers::Outcome::kChanged) return;
  ++counts_.changes;
  Trace(agent.name(), " changes ", user.name, " to version ", version);
  user.changes.push_back({version, (*changed)->number, scheduler_.now(), false});
  ErasureWait wait((*changed)->number, agent.options(), seconds(10));
  for (;;) {
    const auto read = agent.Ask([](ServiceCore& core) { return core.ReadAgents(); });
    if (!read.has_value()) return;
    const std::optional<ErasureSpread> spread = wait.Take(*read, true);
    if (!spread.has_value()) {
      scheduler_.SleepUntil(scheduler_.now() + wait.pause());
      continue;
    }
    const bool isSame = timeline == server_.timeline() && spread->opening == (*changed)->opening;
    if (!spread->isComplete || !isSame) return;
    Trace("version ", version, " of ", user.name, " is everywhere");
    user.changes.back().isTold = true;
    return;
  }
}

// Until no key needs the versions before, which are disabled then.
void Simulation::RotateKeks() {
  const auto self = std::make_shared<Process>();
  for (auto& [name, key] : keks_.keys) {
    if (!key.isDestroyed) key.versions.push_back(crypto::SecretKey::Random());
  }
  scheduler_.SleepUntil(scheduler_.now() + seconds(15));  // calls under way end
  for (auto& [name, key] : keks_.keys) {
    while (!key.isDestroyed && !isOver_ && !RotateKek(name, self)) {
      scheduler_.SleepUntil(scheduler_.now() + milliseconds(100));
    }
    if (!key.isDestroyed) key.oldest = key.versions.size() - 1;
  }
  Trace("all KEKs are rotated, and what is older is disabled");
  areKeksRotated_ = true;
}

// As KeyService::RotateKekKeys. Whether there was nothing to do.
bool Simulation::RotateKek(const std::string& name, const std::shared_ptr<Process>& self) {
  constexpr size_t kMost = 1000;
  const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
  const auto listed = agent->Ask([name](ServiceCore& core) {
    return core.AskKeyring([&](Keyring& keyring) { return keyring.ListKekKeys("hsm", name, {}, kMost); });
  });
  if (!listed.has_value() || !listed->ok() || (*listed)->size() == kMost) return false;
  const size_t newest = keks_.keys.at(name).versions.size() - 1;
  SimulatedKek kek(keks_, name, self);
  bool isDone = true;
  for (const Keyring::OfKek& one : **listed) {
    if (one.key.wrappedKey.front() == newest) continue;
    isDone = false;
    const RootKey::WrappedKey wrapped[] = {{one.key.wrappedKey, one.context}};
    const auto made = std::make_shared<std::vector<absl::StatusOr<Rewrapped>>>(RewrapAndUnwrap(kek, wrapped, {}));
    if (!made->front().ok()) continue;
    (void)SomeAgent()->Ask([made, before = one.key](ServiceCore& core) {
      return core.AskKeyring([&](Keyring& keyring) { return keyring.ReplaceKekKey(before, *made->front()); });
    });
  }
  return isDone;
}

// As somebody who looks at kveil epochs list.
void Simulation::MendRows() {
  while (!isOver_ && (isChaos() || !damaged_.empty())) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(100), seconds(3)));
    if (!isChaos() && server_.tables.ReadEpochs(false, 0).size() == 1) {
      for (const auto& [bytes, damage] : std::map(damaged_)) GiveUpOrRestore({bytes});
      continue;
    }
    const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
    const auto epochs = agent->Ask([](ServiceCore& core) {
      return core.AskKeyring([](Keyring& keyring) { return keyring.ListEpochs(/*withKeys=*/false); });
    });
    if (epochs.has_value() && epochs->ok()) {
      for (const crypto::KeyId& id : (*epochs)->unreadable) GiveUpOrRestore(id);
    }
    // A key that nothing is wrong with must not go, whatever is asked.
    if (!sealed_.empty() && random_.Percent(20)) GiveUp(sealed_[random_.Below(sealed_.size())].id);
  }
}

void Simulation::GiveUpOrRestore(crypto::KeyId id) {
  if (random_.Percent(50)) return GiveUp(id);
  const auto damage = damaged_.find(id.bytes);
  if (damage == damaged_.end()) return;
  if (isDamaged(id)) {
    Trace("key ", ShortText(id), " is restored");
    server_.tables.SetWrappedKey(id, damage->second.before);
  }
  damaged_.erase(damage);
}

void Simulation::GiveUp(crypto::KeyId id) {
  const uint64_t timeline = server_.timeline();
  const std::shared_ptr<SimulatedAgent> agent = SomeAgent();
  const auto answer = agent->Ask(
      [id](ServiceCore& core) { return core.AskKeyring([&](Keyring& keyring) { return keyring.GiveUpKey(id); }); });
  Trace(agent->name(), " is told to give up key ", ShortText(id), ": ", OutcomeOf(answer));
  if (!answer.has_value() || !answer->ok() || timeline != server_.timeline()) return;
  if (!server_.tables.IsErased(id)) Fail(StrCat(agent->name(), " has not given up key ", ShortText(id)));
}

}  // namespace kveil::keys
