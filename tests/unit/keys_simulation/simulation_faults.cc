// What goes wrong.
#include <algorithm>

#include "simulation.h"

namespace kveil::keys {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

bool IsKnown(const RegistryTables& tables, const std::string& agent) {
  const std::vector<Registry::Agent> agents = tables.ReadAgents(0);
  return std::any_of(agents.begin(), agents.end(), [&](const Registry::Agent& one) { return one.name == agent; });
}

}  // namespace

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
  const uint64_t kind = random_.Below(118);
  const size_t number = random_.Below(nodes_.size());
  Node& node = nodes_[number];
  const auto later = [this](Time longest) { return scheduler_.now() + random_.Between(milliseconds(1), longest); };
  if (kind < 35) {
    CutOff(node);
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
    hasServerJumped_ = true;
    Trace("the server's clock on the wall jumps");
  } else if (kind < 95 && mayLose_) {
    if (random_.Percent(50)) return LoseSoon();
    scheduler_.Spawn([this] { LoseNewcomer(); });
  } else if (kind < 97) {
    Trace("another server takes over, which has lost nothing");
    server_.FailOver(server_.tables);
  } else if (kind < 102) {
    Trace("the registry has no place for another agent");
    server_.tables.isFull = true;
    scheduler_.At(later(seconds(5)), [this] { server_.tables.isFull = false; });
    Restart(number, /*inOrder=*/random_.Percent(30));
  } else if (kind >= 110) {
    SlowDown(node, milliseconds(900));
  } else if (mayDamage_) {
    DamageSomeRow();
  }
}

void Simulation::MakeKekFaults() {
  while (!isOver_) {
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(100), seconds(8)));
    if (!isChaos()) return;
    ++counts_.faults;
    MakeKekFault();
    keks_.NoteOut();
  }
}

void Simulation::MakeKekFault() {
  const uint64_t kind = random_.Below(100);
  const std::string name = random_.Percent(50) ? "kek-a" : "kek-b";
  SimulatedKek::Key& key = keks_.keys.at(name);
  const auto later = [this](Time longest) { return scheduler_.now() + random_.Between(milliseconds(1), longest); };
  if (kind < 25) {
    Trace("the provider of KEKs is out of reach");
    keks_.isAway = true;
    scheduler_.At(later(seconds(8)), [this] {
      Trace("the provider of KEKs is back");
      keks_.isAway = false;
      keks_.NoteOut();
    });
  } else if (kind < 50) {
    bool& isOut = random_.Percent(50) ? key.isDenied : key.isDisabled;
    Trace(name, &isOut == &key.isDenied ? " is denied" : " is disabled");
    isOut = true;
    scheduler_.At(later(seconds(10)), [this, name, &isOut] {
      Trace(name, " is there again");
      isOut = false;
      keks_.NoteOut();
    });
  } else if (kind < 60) {
    keks_.isSlow = true;
    scheduler_.At(later(seconds(6)), [this] { keks_.isSlow = false; });
  } else if (kind < 70) {
    Trace(name, " is rotated");
    key.versions.push_back(crypto::SecretKey::Random());
  } else if (kind < 95) {
    std::vector<Topic>& topics = random_.Percent(50) ? topics_ : topicsOfUsers_;
    Topic& topic = topics[random_.Below(topics.size())];
    topic.kek = random_.Percent(30) ? std::nullopt : std::optional(name);
    Trace(topic.name, " moves to ", topic.kek.value_or("no KEK"));
  } else if (mayLoseKek_) {
    Trace(name, " is destroyed");
    key.isDestroyed = true;
  }
}

void Simulation::CutOff(Node& node) {
  Trace("node-", node.number, " is cut off");
  node.link.isCut = true;
  scheduler_.At(scheduler_.now() + random_.Between(milliseconds(1), seconds(8)), [this, &node] {
    Trace("node-", node.number, " is connected again");
    node.link.isCut = false;
  });
}

// Questions have more time than looks for erasures and steps of turns.
void Simulation::SlowDown(Node& node, Time most) {
  Trace("node-", node.number, "'s wire is slow");
  node.link.lag = random_.Between(milliseconds(50), most);
  scheduler_.At(scheduler_.now() + random_.Between(milliseconds(1), seconds(8)), [&node] { node.link.lag = Time(0); });
}

void Simulation::DamageSomeRow() {
  if (sealed_.empty()) return;
  const Sealed& record = sealed_[random_.Below(sealed_.size())];
  const auto life = server_.tables.LifeOf(record.id);
  if (record.lost.has_value() || damaged_.contains(record.id.bytes) || !life.has_value() || life->row->erased) return;
  Trace("the row of key ", ShortText(record.id), " of ", record.owner, " is damaged");
  Damage damage{life->row->wrappedKey, life->row->wrappedKey};
  damage.now[random_.Below(damage.now.size())] ^= 1;
  server_.tables.SetWrappedKey(record.id, damage.now);
  damaged_[record.id.bytes] = std::move(damage);
  wereDamaged_.insert(record.id.bytes);
}

void Simulation::Restart(size_t number, bool inOrder, Time longestPause) {
  Trace(agents_[number]->name(), inOrder ? " ends" : " is killed");
  if (inOrder) {
    agents_[number]->Stop();
  } else {
    agents_[number]->Kill();
  }
  const Time pause = isChaos() ? random_.Between(microseconds(0), longestPause) : Time(0);
  // Not twice.
  const std::shared_ptr<SimulatedAgent> before = agents_[number];
  scheduler_.At(scheduler_.now() + pause, [this, number, before] {
    if (agents_[number] != before || isOver_) return;
    agents_[number] = SimulatedAgent::Start(world_, nodes_[number]);
    Trace(agents_[number]->name(), " starts");
  });
}

bool Simulation::Await(const std::function<bool()>& isSo) {
  for (int look = 0; look < 1000 && isChaos() && !isOver_; ++look) {
    if (isSo()) return true;
    scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), milliseconds(10)));
  }
  return false;
}

// The other server knows neither the agent that has ended nor the one that has taken its place, and has no place for
// it: nobody there waits for the keys of either.
void Simulation::LoseNewcomer() {
  const size_t number = random_.Below(nodes_.size());
  const std::shared_ptr<SimulatedAgent> before = agents_[number];
  Trace(before->name(), " ends");
  before->Stop();
  const bool hasLeft = Await([&] { return !IsKnown(server_.tables, before->name()); });
  if (agents_[number] != before || isOver_) return;
  standby_ = server_.tables;
  damagedThere_ = damaged_;
  agents_[number] = SimulatedAgent::Start(world_, nodes_[number]);
  const std::string name = agents_[number]->name();
  Trace(name, " starts");
  if (!hasLeft || !Await([&] { return IsKnown(server_.tables, name); })) return;
  scheduler_.SleepUntil(scheduler_.now() + random_.Between(milliseconds(1), world_.cacheTtl / 4));
  FailOver(number);
}

void Simulation::LoseSoon() {
  if (!server_.tables.ReadIdentity().has_value()) return;
  standby_ = server_.tables;
  damagedThere_ = damaged_;
  // The other server may not know an agent that starts meanwhile, and have no place for it.
  if (random_.Percent(50)) Restart(random_.Below(nodes_.size()), /*inOrder=*/random_.Percent(30), milliseconds(200));
  scheduler_.At(scheduler_.now() + random_.Between(milliseconds(1), seconds(3)), [this] { FailOver(std::nullopt); });
}

void Simulation::NoteUnheard() {
  unheard_.clear();
  for (const auto& agent : agents_) {
    if (IsKnown(standby_, agent->name())) continue;
    std::set<std::array<uint8_t, 16>>& keys = unheard_[agent->name()];
    for (const Sealed& record : sealed_) {
      if (Holds(*agent, record.id)) keys.insert(record.id.bytes);
    }
  }
}

void Simulation::FailOver(std::optional<size_t> newcomer) {
  if (!isChaos()) return;
  Trace("another server takes over, which has lost the last moments");
  if (random_.Percent(50)) ++standby_.file;
  standby_.isFull = newcomer.has_value() || random_.Percent(50);
  scheduler_.At(scheduler_.now() + random_.Between(milliseconds(1), seconds(5)),
                [this] { server_.tables.isFull = false; });
  NoteUnheard();
  server_.FailOver(standby_);
  failedOver_ = scheduler_.now();
  if (random_.Percent(60)) scheduler_.Spawn([this] { TurnAfterFailOver(); });
  if (newcomer.has_value() || random_.Percent(50)) scheduler_.Spawn([this] { EraseAfterFailOver(); });
  if (newcomer.has_value() || random_.Percent(40)) {
    SlowDown(nodes_[newcomer.value_or(random_.Below(nodes_.size()))], milliseconds(400));
  }
  for (Sealed& record : sealed_) {
    if (record.lost.has_value()) continue;
    if (IsLost(record)) record.lost = scheduler_.now();
    if (record.lost.has_value() || !server_.tables.IsErased(record.id)) record.erased.reset();
  }
  damaged_ = damagedThere_;
  std::erase_if(damaged_, [this](const auto& damage) { return !isDamaged({damage.first}); });
  for (User& user : users_) {
    if (user.keyId.has_value() && !server_.tables.LifeOf(*user.keyId).has_value()) user.keyId.reset();
    const int64_t last = server_.tables.sequence();
    std::erase_if(user.reports, [last](const Report& report) { return report.number > last; });
    user.changes.clear();
    if (user.subject.has_value()) user.readmission = server_.tables.LifeOf(*user.subject).readmission;
    user.readmitted = scheduler_.now();
  }
}

void Simulation::Heal() {
  Trace("no more faults");
  server_.HealForGood();
  server_.tables.isFull = false;
  server_.Start();
  keks_.isAway = keks_.isSlow = false;
  for (auto& [name, key] : keks_.keys) key.isDenied = key.isDisabled = false;
  keks_.NoteOut();
  for (size_t node = 0; node < nodes_.size(); ++node) {
    nodes_[node].link.isCut = false;
    nodes_[node].link.lag = Time(0);
    if (agents_[node]->isLeaving()) Restart(node, /*inOrder=*/true);
  }
}

}  // namespace kveil::keys
