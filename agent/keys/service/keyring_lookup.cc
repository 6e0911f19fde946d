// Finding scope keys in the registry, and making those that do not exist yet.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/crc32c.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/keyring.h"

namespace kveil::keys {

absl::Status Keyring::Resolve(absl::Span<Lookup* const> lookups) {
  std::vector<Asked> missing;
  room_.reset();
  const SteadyTime began = options_.steadyNow();
  absl::Status status = Ready();
  if (status.ok()) status = EnsureNoted();
  // A standby that has taken over may know neither these keys nor that their users were erased.
  const uint64_t opening = registry_->openings();
  if (std::exchange(openingOfThrowAways_, opening) != opening) throwAways_.Clear();
  // No cache keeps a key for longer than cacheTtl after the agent was last seen: so an erasure need not wait longer for
  // an agent that has been cut off.
  const SteadyTime since = registry_->isShared() ? std::min(began, noted_) : began;
  for (Lookup* lookup : lookups) lookup->result.unwrapped = since;
  if (status.ok()) keks_.Take(*registry_, options_.wallNow());
  if (status.ok()) status = FindScopes(lookups, missing);
  if (status.ok()) status = FindIds(lookups);
  if (status.ok() && !missing.empty()) status = Make(std::move(missing));
  if (status.ok()) keks_.Ask(*registry_);
  // Consents of a topic that was not known would not count until it is.
  if (status.ok() && clocks_.isDue()) RefreshSources();
  if (status.ok()) return status;
  for (Lookup* lookup : lookups) lookup->result.status.Update(status);
  return status;
}

absl::Status Keyring::FindScopes(absl::Span<Lookup* const> lookups, std::vector<Asked>& missing) {
  std::vector<Asked> asked;
  std::vector<Registry::RowName> names;
  for (Lookup* lookup : lookups) {
    const std::vector<OwnedScopeName>& scopes = lookup->misses.scopes;
    if (!scopes.empty() && !rootKeyStatus_.ok()) {
      lookup->result.status.Update(rootKeyStatus_);
      continue;
    }
    for (size_t scope = 0; scope < scopes.size(); ++scope) {
      const ScopeName name = scopes[scope].view();
      Asked one{lookup, scope, {keys_.SubjectOf(NameOfRow(name)), WindowOf(name)}, std::nullopt};
      // Without its KEK's key, a user's is of no use: then the registry is not asked for it.
      const absl::Status kek = name.scope == Scope::kUser ? SetKek(one) : absl::OkStatus();
      if (!kek.ok()) {
        NoteDamage(*lookup, kek);
        continue;
      }
      names.push_back(one.name);
      asked.push_back(std::move(one));
    }
  }
  if (asked.empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<Registry::Found>> rows = registry_->FindMany(names);
  if (!rows.ok()) return rows.status();
  for (size_t i = 0; i < asked.size(); ++i) TakeScope(asked[i], std::move((*rows)[i]), missing);
  return absl::OkStatus();
}

void Keyring::TakeScope(Asked asked, Registry::Found row, std::vector<Asked>& missing) {
  Lookup& lookup = *asked.lookup;
  const bool isUsers = lookup.misses.scopes[asked.scope].scope == Scope::kUser;
  if (!row.ok()) {
    // Whoever has a record of that user waits until the row is restored, as no other key may take its place.
    hasUnreadableRows_ = true;
    return NoteDamage(lookup, row.status());
  }
  if (row->has_value()) {
    absl::StatusOr<crypto::SecretKey> key = UnwrapRow(lookup, **row);
    if (!key.ok()) return NoteDamage(lookup, key.status());
    return Give(asked, {*std::move(key), (*row)->id, {}, false, TakeFacts(lookup, (*row)->facts)});
  }
  const bool readmits = lookup.misses.scopes[asked.scope].readmits;
  if (const auto* const key = readmits ? nullptr : throwAways_.Find(asked.name.subject, options_.steadyNow())) {
    return Give(asked, {key->key.Copy(), key->id, {}, true, nullptr});
  }
  if (isUsers) {
    if (absl::Status may = MayMakeUser(lookup.workload); !may.ok()) {
      lookup.result.status.Update(may);
      lookup.result.limit = std::move(may);
      return;
    }
  }
  if (!isUsers) {
    if (absl::Status kek = SetKek(asked); !kek.ok()) return NoteDamage(lookup, kek);
  }
  missing.push_back(std::move(asked));
}

absl::Status Keyring::SetKek(Asked& asked) {
  Lookup& lookup = *asked.lookup;
  const OwnedScopeName& scope = lookup.misses.scopes[asked.scope];
  const std::optional<KekName> name = KekOf(scope.view());
  if (!name.has_value()) return absl::OkStatus();
  const bool isUsers = scope.scope == Scope::kUser;
  const int64_t window = isUsers ? SharedWindow(name) : asked.name.window;
  ASSIGN_OR_RETURN(asked.kek, keks_.FindToMake(*name, window, lookup.workload));
  // A cache asks for each key of a user how long the KEK key counts.
  if (!isUsers) lookup.result.unwrapped = std::min(lookup.result.unwrapped, asked.kek->asked);
  return absl::OkStatus();
}

absl::Status Keyring::FindIds(absl::Span<Lookup* const> lookups) {
  std::vector<crypto::KeyId> ids;
  for (const Lookup* lookup : lookups) {
    for (const KeyRef& ref : lookup->misses.ids) ids.push_back(ref.id);
  }
  if (ids.empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<Registry::Found>> rows = registry_->FindManyById(ids);
  if (!rows.ok()) return rows.status();
  auto row = rows->begin();
  for (Lookup* lookup : lookups) {
    for (const KeyRef& ref : lookup->misses.ids) {
      std::optional<FetchResult::ById> found = TakeId(*lookup, ref, *std::move(row));
      if (found.has_value()) lookup->result.ids.push_back(*std::move(found));
      ++row;
    }
  }
  return absl::OkStatus();
}

std::optional<FetchResult::ById> Keyring::TakeId(Lookup& lookup, const KeyRef& ref, Registry::Found row) {
  using State = FetchResult::IdState;
  FetchResult::ById found{.id = ref.id, .kek = ref.kek};
  if (!row.ok()) {
    hasUnreadableRows_ = true;
    lookup.result.damage = row.status();
    found.state = State::kDamaged;
  } else if (!row->has_value()) {
    found.state = State::kUnknown;
  } else if ((*row)->erased) {
    found.state = State::kErased;
  } else if (absl::StatusOr<crypto::SecretKey> key = UnwrapRow(lookup, **row); absl::IsUnavailable(key.status())) {
    lookup.result.status.Update(key.status());
    return std::nullopt;
  } else if (!key.ok()) {
    lookup.result.damage = key.status();
    found.state = State::kDamaged;
  } else {
    found.state = State::kReady;
    found.key = {*std::move(key), ref.id, (*row)->scope, false, TakeFacts(lookup, (*row)->facts)};
    if (ref.kek.has_value() && !MixIn(lookup, *ref.kek, found)) return std::nullopt;
  }
  return found;
}

// The id is the record's, and anybody may have written it: if the registry has none such, that is no damage.
bool Keyring::MixIn(Lookup& lookup, const crypto::KeyId& id, FetchResult::ById& found) {
  const absl::StatusOr<KekKeys::Found> kek = keks_.Find(id, lookup.workload);
  if (absl::IsUnavailable(kek.status())) {
    lookup.result.status.Update(kek.status());
    return false;
  }
  if (kek.ok()) {
    found.key.key = crypto::KeyUnderKek(found.key.key, *kek->key.key);
    found.key.kek = KekUse{id, kek->asked};
    return true;
  }
  found.key.key = crypto::SecretKey();
  found.state = FetchResult::IdState::kUnknown;
  if (!absl::IsNotFound(kek.status())) {
    lookup.result.damage = kek.status();
    found.state = FetchResult::IdState::kDamaged;
  }
  return true;
}

absl::Status Keyring::MayMakeUser(const std::string& workload) {
  if (!room_.has_value()) room_ = CheckRoom();
  if (!room_->ok()) return *room_;
  if (newUsers_.Take(workload, options_.steadyNow())) return absl::OkStatus();
  return absl::UnavailableError(StrCat("workload ", NameOf(workload), " has records of more than ",
                                       options_.newUsersPerSecond,
                                       " new users per second; those of further ones wait (keys.newUsersPerSecond)"));
}

// The epochs may turn at any moment. Then the keys are wrapped again, in the epoch that is in use now.
absl::Status Keyring::Make(std::vector<Asked> missing) {
  constexpr int kMostAttempts = 3;
  bool isOfThisEpoch = false;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    ASSIGN_OR_RETURN(isOfThisEpoch, TryToMake(missing));
    if (missing.empty()) return absl::OkStatus();
    if (isOfThisEpoch) continue;
    ASSIGN_OR_RETURN(std::vector<Registry::Epoch> rows, ReadEpochs());
    if (keys_.Knows(rows)) {
      keys_.Follow(rows);
    } else if (!unwrapper_.isBusy()) {
      BeginUnwrapping(std::move(rows));
    }
  }
  if (isOfThisEpoch) {
    return absl::UnavailableError(StrCat(registry_->name(), ": the same users are erased all the time; try again"));
  }
  return absl::UnavailableError(StrCat(root_->name(), " has not unwrapped the key of the newest epoch yet"));
}

absl::StatusOr<bool> Keyring::TryToMake(std::vector<Asked>& missing) {
  std::vector<crypto::SecretKey> keys;
  std::vector<Registry::NewRow> rows;
  std::vector<size_t> rowOf;                                 // of each of `missing`
  absl::flat_hash_map<Registry::RowName, size_t> rowOfName;  // several may ask for the same key
  for (const Asked& asked : missing) {
    const auto [row, isNew] = rowOfName.try_emplace(asked.name, rows.size());
    rowOf.push_back(row->second);
    if (!isNew) continue;
    const OwnedScopeName& name = asked.lookup->misses.scopes[asked.scope];
    const bool isMadeUnderKek = asked.kek.has_value() && name.scope != Scope::kUser;
    RegistryKeys::NewKey made = keys_.MakeKey(name.scope, asked.name, isMadeUnderKek ? &asked.kek->key : nullptr);
    keys.push_back(std::move(made.key));
    rows.push_back({std::move(made.row), NameOfRow(name.view()).keyspace});
  }
  absl::StatusOr<std::vector<Registry::Inserted>> inserted = registry_->InsertOrGet(rows, options_.wallNow());
  if (!inserted.ok()) return inserted.status();
  const bool isStale = std::any_of(inserted->begin(), inserted->end(), [](const Registry::Inserted& one) {
    return one.state == Registry::Inserted::State::kStale;
  });
  if (isStale) return false;
  ASSIGN_OR_RETURN(const absl::flat_hash_set<Subject> readmitted, ReadmitErased(missing, rowOf, *inserted));
  std::vector<Asked> again;
  for (size_t i = 0; i < missing.size(); ++i) {
    const size_t row = rowOf[i];
    if (readmitted.contains(missing[i].name.subject)) {
      again.push_back(std::move(missing[i]));
    } else {
      TakeInserted(missing[i], (*inserted)[row], keys[row], rows[row].row.id);
    }
  }
  missing = std::move(again);
  return true;
}

void Keyring::TakeInserted(const Asked& asked, const Registry::Inserted& inserted, const crypto::SecretKey& key,
                           const crypto::KeyId& id) {
  switch (inserted.state) {
    case Registry::Inserted::State::kNew:
      return Give(asked, {key.Copy(), id, {}, false, TakeFacts(*asked.lookup, inserted.facts)});
    case Registry::Inserted::State::kErased:
      // Where the erasure ends by itself, the registry is asked for that again and again.
      if (!asked.lookup->misses.scopes[asked.scope].readmits) {
        throwAways_.Put(asked.name.subject, key.Copy(), id, options_.steadyNow());
      }
      return Give(asked, {key.Copy(), id, {}, true, nullptr});
    case Registry::Inserted::State::kExists:
    case Registry::Inserted::State::kStale:  // TryToMake has seen to it
      break;
  }
  absl::StatusOr<crypto::SecretKey> existing = UnwrapRow(*asked.lookup, *inserted.existing);
  if (!existing.ok()) return NoteDamage(*asked.lookup, existing.status());
  const Registry::Row& row = *inserted.existing;
  Give(asked, {*std::move(existing), row.id, {}, false, TakeFacts(*asked.lookup, row.facts)});
}

void Keyring::Give(const Asked& asked, ScopeKey key) {
  const OwnedScopeName& name = asked.lookup->misses.scopes[asked.scope];
  key.scope = name.scope;
  if (asked.kek.has_value() && name.scope == Scope::kUser) {
    key.key = crypto::KeyUnderKek(key.key, *asked.kek->key.key);
    key.kek = KekUse{asked.kek->key.id, asked.kek->asked};
  }
  asked.lookup->result.scopes.push_back({name, std::move(key)});
}

users::SharedFacts Keyring::TakeFacts(Lookup& lookup, std::string_view stored) {
  const auto clockOf = [this](const std::string& keyspace) { return clocks_.Of(keyspace); };
  absl::StatusOr<users::SharedFacts> facts = facts_.Get(stored, clockOf);
  if (facts.ok()) {
    const bool isOfTopic = *facts != nullptr && (*facts)->source.has_value() && !(*facts)->consents.empty();
    if (isOfTopic) clocks_.NoteWanted((*facts)->source->keyspace, options_.steadyNow());
    return *std::move(facts);
  }
  lookup.result.damage = absl::DataLossError(StrCat(registry_->name(), ": ", ToStd(facts.status().message())));
  return users::DamagedFacts();
}

// A key of an epoch that is being unwrapped is not damaged, nor one of an epoch that the registry was not asked about.
absl::StatusOr<crypto::SecretKey> Keyring::UnwrapRow(Lookup& lookup, const Registry::Row& row) {
  MeetEpoch(row.epoch);
  const bool isKnown = keys_.HasEpoch(row.epoch) || IsMissing(row.epoch);
  if (!isKnown || (!keys_.HasEpoch(row.epoch) && openingOfKeys_ != registry_->openings())) {
    return absl::UnavailableError(StrCat(root_->name(), " has not unwrapped the key of epoch ", row.epoch, " yet"));
  }
  if (!RegistryKeys::IsUnderKek(row)) return keys_.Unwrap(row);
  ASSIGN_OR_RETURN(const RegistryKeys::UnderKek under, keys_.OpenUnderKek(row));
  const absl::StatusOr<KekKeys::Found> kek = keks_.Find(under.kek, lookup.workload);
  if (absl::IsNotFound(kek.status())) return absl::DataLossError(kek.status().message());
  if (!kek.ok()) return kek.status();
  // So no cache keeps a key for longer than the KEK is known to be there.
  lookup.result.unwrapped = std::min(lookup.result.unwrapped, kek->asked);
  return keys_.Unwrap(row, under, *kek->key.key);
}

void Keyring::NoteDamage(Lookup& lookup, const absl::Status& damage) {
  if (!absl::IsUnavailable(damage)) lookup.result.damage = damage;
  lookup.result.status.Update(absl::UnavailableError(damage.message()));
}

int64_t Keyring::WindowOf(const ScopeName& name) const {
  return name.scope == Scope::kUser ? 0 : SharedWindow(KekOf(name));
}

// Those of each KEK begin at a moment of its own, the same for all agents: otherwise each agent would ask for a key of
// every KEK in the same second.
int64_t Keyring::SharedWindow(const std::optional<KekName>& kek) const {
  const int64_t length = std::max<int64_t>(1, options_.sharedKeyWindow.count());
  const int64_t earlier = kek.has_value() ? int64_t{Crc32c(AsBytes(kek->Text()))} % length : 0;
  return (absl::ToUnixSeconds(options_.wallNow()) + earlier) / length;
}

}  // namespace kveil::keys
