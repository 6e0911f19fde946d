// What must hold.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "keys/service/registry_keys.h"
#include "simulation.h"

namespace kveil::keys {
namespace {

int VersionOf(const users::UserFacts* facts) {
  if (facts == nullptr) return 0;
  for (const auto& [name, value] : facts->attributes) {
    if (name == "state") return std::atoi(value.c_str() + sizeof("version"));
  }
  return 0;
}

uint64_t BytesOf(const CachedKey& key) {
  uint64_t bytes;
  std::memcpy(&bytes, key.key.bytes().data(), sizeof(bytes));
  return bytes;
}

}  // namespace

Simulation::Sealed* Simulation::FindRecord(const KeyRef& ref) {
  const auto place = places_.find(ref);
  return place == places_.end() ? nullptr : &sealed_[place->second];
}

bool Simulation::isDamaged(const crypto::KeyId& id) const {
  const auto damage = damaged_.find(id.bytes);
  if (damage == damaged_.end()) return false;
  const auto life = server_.tables.LifeOf(id);
  return life.has_value() && life->row->wrappedKey == damage->second.now;
}

// After each request that the server has done.
void Simulation::Look() {
  if (std::exchange(confirmations_, server_.tables.confirmations()) != server_.tables.confirmations()) {
    LookAtConfirmations();
  }
  if (std::exchange(revision_, server_.tables.revision()) == server_.tables.revision()) return;
  LookAtUsers();
  std::set<std::array<uint8_t, 16>> givenUp;
  for (Sealed& record : sealed_) {
    if (record.erased.has_value() || record.lost.has_value() || record.isThrowAway) continue;
    const auto life = server_.tables.LifeOf(record.id);
    if (!life.has_value() || !life->row->erased) continue;
    record.erased = scheduler_.now();
    Trace("the server has ", life->isGivenUp ? "given up" : "erased", " key ", ShortText(record.ref()), " of ",
          record.owner);
    if (life->isGivenUp) {
      givenUp.insert(record.id.bytes);
    } else if (!record.user.has_value() || !users_[*record.user].wasWanted) {
      Fail(StrCat("key ", ShortText(record.ref()), " of ", record.owner, " is erased, and nobody has asked for it"));
    }
  }
  for (const std::array<uint8_t, 16>& bytes : givenUp) {
    ++counts_.givenUp;
    if (damaged_.erase(bytes) == 0)
      Fail(StrCat("key ", ShortText(crypto::KeyId{bytes}), " was given up, and could be unwrapped"));
  }
}

void Simulation::LookAtUsers() {
  for (User& user : users_) {
    if (!user.subject.has_value()) continue;
    const RegistryTables::SubjectLife life = server_.tables.LifeOf(*user.subject);
    if (life.readmission == user.readmission) continue;
    user.readmission = life.readmission;
    user.readmitted = scheduler_.now();
    ++counts_.readmissions;
    Trace("the server has readmitted ", user.name);
  }
}

// Who has confirmed has wiped the key.
void Simulation::LookAtConfirmations() {
  for (const auto& agent : agents_) {
    const int64_t confirmed = server_.tables.ConfirmedBy(agent->name());
    if (std::exchange(confirmed_[agent->name()], confirmed) == confirmed) continue;
    for (const Sealed& record : sealed_) {
      if (!record.erased.has_value() || record.isThrowAway || record.lost.has_value()) continue;
      const auto life = server_.tables.LifeOf(record.id);
      if (!life.has_value() || life->erasure == 0 || life->erasure > confirmed || !Holds(*agent, record.id)) continue;
      Fail(StrCat(agent->name(), " holds key ", ShortText(record.id), " of ", record.owner,
                  ", and has confirmed that it has dropped it"));
    }
  }
}

bool Simulation::IsUnheard(const SimulatedAgent& agent, const crypto::KeyId& id) const {
  if (scheduler_.now() > failedOver_ + world_.cacheTtl) return false;
  const auto unheard = unheard_.find(agent.name());
  return unheard != unheard_.end() && unheard->second.contains(id.bytes);
}

bool Simulation::Holds(SimulatedAgent& agent, const crypto::KeyId& id) const {
  if (agent.Holds(id)) return true;
  const auto mixed = mixed_.find(id.bytes);
  return mixed != mixed_.end() && std::any_of(mixed->second.begin(), mixed->second.end(), [&](const auto& kekKey) {
           return agent.Holds({id, crypto::KeyId{kekKey}});
         });
}

// Whom a report does not bound has the key in no cache, used or not.
void Simulation::CheckHeld(size_t user, const Report& report) {
  for (const Sealed& record : sealed_) {
    if (record.user != user || record.isThrowAway || record.lost.has_value()) continue;
    const auto life = server_.tables.LifeOf(record.id);
    if (!life.has_value() || life->made >= report.number) continue;
    for (const auto& agent : agents_) {
      const auto bound = report.bound.find(agent->name());
      const bool may = !report.isComplete && bound != report.bound.end() && bound->second > scheduler_.now();
      if (may || agent->isDead() || IsUnheard(*agent, record.id) || !Holds(*agent, record.id)) continue;
      Fail(StrCat(agent->name(), " holds key ", ShortText(record.id), " of ", record.owner,
                  ", and an erasure's report says that it does not"));
    }
  }
}

bool Simulation::IsLost(const Sealed& record) const {
  const bool isKekLost = record.kekKey.has_value() && server_.tables.FindKekKeys({*record.kekKey}).empty();
  return isKekLost || !server_.tables.LifeOf(record.id).has_value();
}

bool Simulation::IsAsThePolicySays(const Sealed& record, const Registry::Row& row) const {
  if (!record.user.has_value()) return row.erased || RegistryKeys::IsUnderKek(row) == record.kek.has_value();
  if (RegistryKeys::IsUnderKek(row) || record.kekKey.has_value() != record.kek.has_value()) return false;
  return !record.kek.has_value() || server_.tables.FindKekKeys({*record.kekKey}).front().name.key == *record.kek;
}

Simulation::Sealed* Simulation::AddRecord(const SimulatedAgent& agent, const Sealed& sealed) {
  Trace(agent.name(), " seals for ", sealed.owner, " with a new key ", ShortText(sealed.ref()),
        sealed.kek.has_value() ? StrCat(", under ", *sealed.kek) : "", sealed.isThrowAway ? ", thrown away" : "");
  places_[sealed.ref()] = sealed_.size();
  Sealed& record = sealed_.emplace_back(sealed);
  if (IsLost(record)) {
    const bool mayBeLost = failedOver_ != Time(0) && scheduler_.now() <= failedOver_ + 2 * world_.cacheTtl;
    if (!mayBeLost) {
      Fail(StrCat(agent.name(), " seals for ", record.owner, " with ", ShortText(record.ref()),
                  ", which the registry does not know"));
    }
    record.lost = failedOver_;
    return &record;
  }
  // It may have been erased before it is used for the first time.
  const Registry::Row& row = *server_.tables.LifeOf(record.id)->row;
  if (!record.isThrowAway && row.erased) record.erased = scheduler_.now();
  if (!IsAsThePolicySays(record, row)) {
    Fail(StrCat("key ", ShortText(record.ref()), " of ", record.owner,
                " is under a KEK, or is not, as the policy says"));
  }
  return &record;
}

void Simulation::OnSealed(SimulatedAgent& agent, Sealed sealed, const CachedKey& key) {
  ++counts_.sealed;
  sealed.id = key.id;
  if (key.kek != nullptr) sealed.kekKey = key.kek->id;
  sealed.bytes = BytesOf(key);
  sealed.isThrowAway = key.erasedSubject;
  Note(sealed.id.bytes[0]);
  Sealed* record = FindRecord(sealed.ref());
  if (record == nullptr) record = AddRecord(agent, sealed);
  if (record->owner != sealed.owner || record->kek != sealed.kek) {
    return Fail(StrCat("key ", ShortText(sealed.ref()), " is of ", record->owner, " and ", sealed.owner,
                       ", or of several KEKs"));
  }
  if (record->isThrowAway != sealed.isThrowAway) {
    return Fail(StrCat("key ", ShortText(sealed.ref()), " is thrown away, and is not"));
  }
  if (record->isThrowAway) return CheckThrowAway(agent, *record);
  if (record->user.has_value() && !record->lost.has_value() && !server_.tables.IsErased(record->id)) {
    User& user = users_[*record->user];
    const bool isOther = user.keyId.has_value() && *user.keyId != record->id;
    if (isOther && !server_.tables.IsErased(*user.keyId)) {
      return Fail(StrCat(agent.name(), " seals for ", user.name, " with ", ShortText(record->id), ", and the key is ",
                         ShortText(*user.keyId)));
    }
    user.keyId = record->id;
  }
  OnOpened(agent, *record, key);
}

void Simulation::CheckThrowAway(const SimulatedAgent& agent, const Sealed& record) {
  const Time now = scheduler_.now();
  // Nobody would ever know what became of the record.
  if (record.lost.has_value() && now > *record.lost + world_.cacheTtl) {
    return Fail(StrCat(agent.name(), " seals for ", record.owner, " with ", ShortText(record.id),
                       ", which the registry does not know"));
  }
  const User& user = users_[*record.user];
  if (!user.wasWanted) return Fail(StrCat(agent.name(), " throws away a key of ", user.name, ", whom nobody erases"));
  if (!user.subject.has_value() || user.readmission == 0 || server_.tables.LifeOf(*user.subject).isErased) return;
  if (now > user.readmitted + 2 * world_.cacheTtl) {
    Fail(StrCat(agent.name(), " throws away a key of ", user.name, ", who was readmitted ",
                (now - user.readmitted).count(), " us ago"));
  }
}

void Simulation::OnOpened(const SimulatedAgent& agent, const Sealed& record, const CachedKey& key) {
  ++counts_.opened;
  if (record.kek.has_value()) ++counts_.underKeks;
  if (record.kekKey.has_value()) ++counts_.mixed;
  const Time now = scheduler_.now();
  const std::string what = StrCat(agent.name(), " has key ", ShortText(record.ref()), " of ", record.owner);
  if (BytesOf(key) != record.bytes) return Fail(StrCat(what, ", but it is another key"));
  if (record.isThrowAway) return Fail(StrCat(what, ", which was thrown away"));
  for (const auto& [since, how] : {std::pair(record.erased, "was erased"), std::pair(record.lost, "was lost")}) {
    if (since.has_value() && now > *since + world_.cacheTtl) {
      return Fail(StrCat(what, " which ", how, " ", (now - *since).count(), " us ago"));
    }
  }
  CheckKek(agent, record);
  const auto life = server_.tables.LifeOf(record.id);
  if (!life.has_value() || !record.user.has_value()) return;
  CheckErasures(agent, record, *life);
  CheckFacts(agent, record, *life, key.facts);
}

void Simulation::CheckKek(const SimulatedAgent& agent, const Sealed& record) {
  if (!record.kek.has_value()) return;
  const std::optional<Time> since = keks_.keys.at(*record.kek).outSince;
  if (since.has_value() && scheduler_.now() > *since + world_.cacheTtl) {
    Fail(StrCat(agent.name(), " has key ", ShortText(record.ref()), " of ", record.owner, " under ", *record.kek,
                ", which nobody can use since ", (scheduler_.now() - *since).count(), " us"));
  }
}

void Simulation::CheckErasures(const SimulatedAgent& agent, const Sealed& record, const RegistryTables::KeyLife& life) {
  const Time now = scheduler_.now();
  const User& user = users_[*record.user];
  const std::string what = StrCat(agent.name(), " has key ", ShortText(record.ref()), " of ", record.owner);
  for (const Report& report : user.reports) {
    const bool isOfAfterwards = life.made >= report.number;
    if (isOfAfterwards || IsUnheard(agent, record.id)) continue;
    if (report.isComplete) {
      return Fail(StrCat(what, ", whose erasure was reported as complete ", (now - report.time).count(), " us ago"));
    }
    const auto bound = report.bound.find(agent.name());
    if (bound == report.bound.end()) return Fail(StrCat(what, ", and an erasure's report does not name the agent"));
    if (now >= bound->second) return Fail(StrCat(what, ", and an erasure's report says that it has not"));
  }
  if (life.erasure == 0) return;
  if (server_.tables.ConfirmedBy(agent.name()) >= life.erasure) {
    return Fail(StrCat(what, ", and has confirmed that it has dropped it"));
  }
  // By a server's clock that jumps, an agent may seem to have been away for long.
  if (user.readmission > life.erasure && !hasServerJumped_) {
    Fail(StrCat(what, ", who was readmitted ", (now - user.readmitted).count(), " us ago with another key"));
  }
}

void Simulation::CheckFacts(const SimulatedAgent& agent, const Sealed& record, const RegistryTables::KeyLife& life,
                            const users::UserFacts* facts) {
  const User& user = users_[*record.user];
  if (!user.subject.has_value()) return;
  const int64_t erasure = server_.tables.LifeOf(*user.subject).erasure;
  const int64_t confirmed = server_.tables.ConfirmedBy(agent.name());
  const int version = VersionOf(facts);
  int least = 0;
  for (const Change& change : user.changes) {
    if (change.number < erasure) {
      if (change.version == version && life.made >= erasure) {
        Fail(StrCat(agent.name(), " goes by version ", version, " of what was known of ", user.name,
                    " before the erasure"));
      }
      continue;
    }
    const bool mustBe =
        change.isTold || change.number <= confirmed || scheduler_.now() > change.since + world_.cacheTtl;
    if (mustBe) least = std::max(least, change.version);
  }
  if (version < least) {
    Fail(StrCat(agent.name(), " goes by version ", version, " of what is known of ", user.name, ", and ", least,
                " has to have reached it"));
  }
}

KeyCache::State Simulation::StateInTheEnd(const Sealed& record) const {
  if (record.isThrowAway || record.erased.has_value()) return KeyCache::State::kErased;
  const bool hasKek = !record.kek.has_value() || !keks_.keys.at(*record.kek).isDestroyed;
  return hasKek ? KeyCache::State::kReady : KeyCache::State::kNotCached;
}

}  // namespace kveil::keys
