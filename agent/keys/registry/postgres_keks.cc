// What PostgresRegistry does for keys that KEKs have wrapped.
#include <utility>

#include "base/status_macros.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {

absl::StatusOr<std::vector<Registry::KekKey>> PostgresRegistry::TakeKekKeys(const PostgresResult& rows) const {
  std::vector<KekKey> keys;
  for (size_t i = 0; i < rows.size(); ++i) {
    KekKey& key = keys.emplace_back();
    if (!CopyTo(key.id.bytes, rows.BytesAt(i, 0))) return Corrupt("the row of a KEK key is malformed");
    key.name = {std::string(rows.TextAt(i, 1)), std::string(rows.TextAt(i, 2))};
    key.window = rows.IntegerAt(i, 3);
    const Bytes wrapped = rows.BytesAt(i, 4);
    key.wrappedKey.assign(wrapped.begin(), wrapped.end());
  }
  return keys;
}

absl::StatusOr<std::vector<Registry::KekKey>> PostgresRegistry::FindKekKeys(absl::Span<const crypto::KeyId> ids) {
  std::vector<Bytes> asked;
  for (const crypto::KeyId& id : ids) asked.emplace_back(id.bytes);
  PostgresParameters parameters;
  parameters.AddArray(asked);
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kFindKekKeys, parameters));
  absl::StatusOr<std::vector<KekKey>> keys = TakeKekKeys(results.at(0));
  if (!keys.ok()) return Fail(keys.status());
  return keys;
}

absl::StatusOr<std::optional<Registry::KekKey>> PostgresRegistry::FindKekKey(const KekName& name, int64_t window) {
  PostgresParameters parameters;
  parameters.Add(AsBytes(name.provider)).Add(AsBytes(name.key)).Add(window);
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kFindKekKey, parameters));
  absl::StatusOr<std::vector<KekKey>> keys = TakeKekKeys(results.at(0));
  if (!keys.ok()) return Fail(keys.status());
  if (keys->empty()) return std::nullopt;
  return std::move(keys->front());
}

// Two agents that insert at the same moment: the unique index has one wait for the other, and then it finds the
// other's.
absl::StatusOr<Registry::KekKey> PostgresRegistry::InsertOrGetKekKey(const KekKey& key, absl::Time now) {
  PostgresParameters insert, find;
  insert.Add(key.id.bytes).Add(AsBytes(key.name.provider)).Add(AsBytes(key.name.key)).Add(key.window);
  insert.Add(key.wrappedKey).Add(absl::ToUnixMillis(now));
  find.Add(AsBytes(key.name.provider)).Add(AsBytes(key.name.key)).Add(key.window);
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kInsertKekKey, insert),
                                          PostgresStatement::Execute(postgres::kFindKekKey, find)};
  absl::StatusOr<Results> results = Transact(postgres::kLockShared, statements);
  if (!results.ok()) return Fail(results.status());
  absl::StatusOr<std::vector<KekKey>> keys = TakeKekKeys(results->at(1));
  if (!keys.ok()) return Fail(keys.status());
  if (keys->empty()) return Fail(Corrupt("a KEK key is missing after it was inserted"));
  return std::move(keys->front());
}

absl::StatusOr<std::vector<Registry::KekKey>> PostgresRegistry::ListKekKeys(std::string_view provider,
                                                                            std::string_view name,
                                                                            const crypto::KeyId& after, size_t most) {
  PostgresParameters asked;
  asked.Add(AsBytes(provider)).Add(AsBytes(name)).Add(after.bytes).Add(static_cast<int64_t>(most));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kListKekKeys, asked));
  absl::StatusOr<std::vector<KekKey>> keys = TakeKekKeys(results.at(0));
  if (!keys.ok()) return Fail(keys.status());
  return keys;
}

absl::StatusOr<bool> PostgresRegistry::ReplaceKekKey(const KekKey& before, const ByteBuffer& after) {
  PostgresParameters parameters;
  parameters.Add(before.id.bytes).Add(before.wrappedKey).Add(after);
  return TurnBy(postgres::kLockShared, postgres::kReplaceKekKey, parameters);
}

}  // namespace kveil::keys
