// Finding scope keys in the registry, and making those that do not exist yet.
#include <algorithm>
#include <iterator>
#include <utility>

#include "base/text.h"
#include "crypto/key_wrap.h"
#include "keys/service/keyring.h"

namespace kveil::keys {

Misses Misses::Take(size_t count) {
  if (size() <= count) return std::exchange(*this, {});
  Misses taken;
  const auto takeLast = [&](auto& from, auto& to) {
    const auto first = from.end() - static_cast<ptrdiff_t>(std::min(from.size(), count - taken.size()));
    std::move(first, from.end(), std::back_inserter(to));
    from.erase(first, from.end());
  };
  takeLast(scopes, taken.scopes);
  takeLast(ids, taken.ids);
  return taken;
}

absl::Status Keyring::Resolve(absl::Span<Lookup* const> lookups) {
  std::vector<Missing> missing;
  roomOnDisk_.reset();
  absl::Status status = Ready();
  if (status.ok()) status = Read(lookups, missing);
  if (status.ok() && !missing.empty()) status = Make(missing);
  if (status.ok()) return status;
  for (Lookup* lookup : lookups) lookup->result.status.Update(status);
  return status;
}

absl::Status Keyring::Read(absl::Span<Lookup* const> lookups, std::vector<Missing>& missing) {
  absl::StatusOr<SqliteTables::Transaction> transaction = registry_->BeginRead();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::Status status;
  for (Lookup* lookup : lookups) {
    lookup->result.unwrapped = options_.steadyNow();
    for (size_t scope = 0; status.ok() && scope < lookup->misses.scopes.size(); ++scope) {
      status = ReadScope(*lookup, scope, missing);
    }
    for (size_t id = 0; status.ok() && id < lookup->misses.ids.size(); ++id) {
      status = ReadId(*lookup, lookup->misses.ids[id]);
    }
  }
  // The transaction is not committed: what was read is true, and SQLite commits nothing after a damaged page.
  return status.ok() ? status : Fail(status);
}

absl::Status Keyring::ReadScope(Lookup& lookup, size_t scope, std::vector<Missing>& missing) {
  if (!rootKeyStatus_.ok()) {
    lookup.result.status.Update(rootKeyStatus_);
    return absl::OkStatus();
  }
  const ScopeName name = lookup.misses.scopes[scope].view();
  const Subject subject = SubjectOf(name);
  const int64_t window = WindowOf(name.scope);
  absl::StatusOr<std::optional<SqliteTables::Row>> row = registry_->FindActive(subject, window);
  if (!row.ok()) return ReadDamaged(lookup, row.status());
  if (!row->has_value()) {
    if (GiveThrowAway(lookup, scope, subject)) return absl::OkStatus();
    if (name.scope == Scope::kUser) {
      if (absl::Status may = MayMakeUser(lookup.workload); !may.ok()) {
        lookup.result.status.Update(may);
        lookup.result.limit = std::move(may);
        return absl::OkStatus();
      }
    }
    missing.push_back({&lookup, scope, subject, window});
    return absl::OkStatus();
  }
  absl::StatusOr<crypto::SecretKey> key = Unwrap(**row);
  if (key.ok()) {
    Give(lookup, scope, *std::move(key), (*row)->id, false);
  } else {
    NoteDamage(lookup, key.status());
  }
  return absl::OkStatus();
}

absl::Status Keyring::ReadId(Lookup& lookup, const crypto::KeyId& id) {
  absl::StatusOr<std::optional<SqliteTables::Row>> row = registry_->FindById(id);
  FetchResult::ById found{.id = id};
  if (!row.ok()) {
    if (!absl::IsDataLoss(row.status())) return row.status();
    hasDamagedPages_ = true;
    lookup.result.damage = row.status();
    found.state = FetchResult::IdState::kDamaged;
  } else if (!row->has_value()) {
    found.state = FetchResult::IdState::kUnknown;
  } else if ((*row)->erased) {
    found.state = FetchResult::IdState::kErased;
  } else if (absl::StatusOr<crypto::SecretKey> key = Unwrap(**row); !key.ok()) {
    lookup.result.damage = key.status();
    found.state = FetchResult::IdState::kDamaged;
  } else {
    found.state = FetchResult::IdState::kReady;
    found.key = {*std::move(key), id, (*row)->scope, false};
  }
  lookup.result.ids.push_back(std::move(found));
  return absl::OkStatus();
}

// A damaged row is the matter of who asked for it: whoever has a record of that user waits until it is restored, as no
// other key may take its place. Any other error is the whole registry's, and is returned.
absl::Status Keyring::ReadDamaged(Lookup& lookup, const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return status;
  hasDamagedPages_ = true;
  NoteDamage(lookup, status);
  return absl::OkStatus();
}

void Keyring::NoteDamage(Lookup& lookup, const absl::Status& damage) {
  lookup.result.damage = damage;
  lookup.result.status.Update(absl::UnavailableError(damage.message()));
}

absl::Status Keyring::MayMakeUser(const std::string& workload) {
  if (!roomOnDisk_.has_value()) roomOnDisk_ = CheckRoomOnDisk();
  if (!roomOnDisk_->ok()) return *roomOnDisk_;
  if (newUsers_.Take(workload, options_.steadyNow())) return absl::OkStatus();
  return absl::UnavailableError(StrCat("workload ", workload.empty() ? "(unknown)" : workload,
                                       " has records of more than ", options_.newUsersPerSecond,
                                       " new users per second; those of further ones wait (keys.newUsersPerSecond)"));
}

absl::Status Keyring::Make(const std::vector<Missing>& missing) {
  absl::StatusOr<SqliteTables::Transaction> transaction = registry_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  // What is given before the commit must not leave when the commit fails.
  std::vector<std::pair<Lookup*, size_t>> given;
  given.reserve(missing.size());
  for (const Missing& one : missing) given.emplace_back(one.lookup, one.lookup->result.scopes.size());
  absl::Status status;
  const std::string* keyspace = nullptr;  // of the key before; nearly always that of all
  for (const Missing& one : missing) {
    const OwnedScopeName& name = one.lookup->misses.scopes[one.scope];
    if (status.ok() && name.scope == Scope::kUser && (keyspace == nullptr || *keyspace != name.keyspace)) {
      status = registry_->AddKeyspace(name.keyspace);
      keyspace = &name.keyspace;
    }
    if (status.ok()) status = MakeOne(one);
  }
  if (status.ok()) status = transaction->Commit();
  if (status.ok()) return status;
  for (const auto& [lookup, count] : given) {
    if (lookup->result.scopes.size() > count) lookup->result.scopes.resize(count);
  }
  for (const Missing& one : missing) throwAways_.erase(one.subject);
  return Fail(status);
}

absl::Status Keyring::MakeOne(const Missing& missing) {
  // Inside the write transaction nobody else can make or erase the key any more.
  absl::StatusOr<std::optional<SqliteTables::Row>> other = registry_->FindActive(missing.subject, missing.window);
  if (!other.ok()) return other.status();
  if (other->has_value()) {
    absl::StatusOr<crypto::SecretKey> key = Unwrap(**other);
    if (key.ok()) {
      Give(*missing.lookup, missing.scope, *std::move(key), (*other)->id, false);
    } else {
      NoteDamage(*missing.lookup, key.status());
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::optional<absl::Time>> erased = registry_->FindErasure(missing.subject);
  if (!erased.ok()) return erased.status();
  if (erased->has_value()) return MakeThrowAway(missing);

  const OwnedScopeName& name = missing.lookup->misses.scopes[missing.scope];
  crypto::SecretKey key = crypto::SecretKey::Random();
  const auto& [epoch, epochKey] = *epochs_.rbegin();
  SqliteTables::Row row{crypto::ComputeKeyId(key), name.scope, missing.subject, missing.window, epoch, false, {}};
  row.wrappedKey = crypto::WrapKey(epochKey, key, RowAad(row));
  if (absl::Status status = registry_->Insert(row, options_.wallNow()); !status.ok()) return status;
  Give(*missing.lookup, missing.scope, std::move(key), row.id, false);
  return absl::OkStatus();
}

absl::Status Keyring::MakeThrowAway(const Missing& missing) {
  if (GiveThrowAway(*missing.lookup, missing.scope, missing.subject)) return absl::OkStatus();
  ThrowAway made{crypto::SecretKey::Random(), {}, options_.steadyNow() + options_.cacheTtl};
  made.id = crypto::ComputeKeyId(made.key);
  const Scope scope = missing.lookup->misses.scopes[missing.scope].scope;
  const SqliteTables::Row row{made.id, scope, missing.subject, missing.window, epochs_.rbegin()->first, true, {}};
  if (absl::Status status = registry_->Insert(row, options_.wallNow()); !status.ok()) return status;
  throwAways_.insert_or_assign(missing.subject, std::move(made));
  GiveThrowAway(*missing.lookup, missing.scope, missing.subject);
  return absl::OkStatus();
}

bool Keyring::GiveThrowAway(Lookup& lookup, size_t scope, const Subject& subject) {
  auto found = throwAways_.find(subject);
  if (found == throwAways_.end() || found->second.expires <= options_.steadyNow()) return false;
  Give(lookup, scope, found->second.key.Copy(), found->second.id, true);
  return true;
}

void Keyring::Give(Lookup& lookup, size_t scope, crypto::SecretKey key, const crypto::KeyId& id, bool erasedSubject) {
  const OwnedScopeName& name = lookup.misses.scopes[scope];
  lookup.result.scopes.push_back({name, {std::move(key), id, name.scope, erasedSubject}});
}

}  // namespace kveil::keys
