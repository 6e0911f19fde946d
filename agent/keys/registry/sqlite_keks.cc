// What an SQLite registry does for keys that KEKs have wrapped.
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/sqlite_registry.h"
#include "keys/registry/sqlite_tables.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {

absl::StatusOr<std::optional<Registry::KekKey>> SqliteTables::TakeKekKey(Statement& statement) const {
  ASSIGN_OR_RETURN(const bool isThere, statement.Step());
  if (!isThere) return std::nullopt;
  Registry::KekKey key;
  key.name = {std::string(statement.TextAt(1)), std::string(statement.TextAt(2))};
  key.window = statement.IntegerAt(3);
  const Bytes wrapped = statement.BlobAt(4);
  key.wrappedKey.assign(wrapped.begin(), wrapped.end());
  if (CopyTo(key.id.bytes, statement.BlobAt(0))) return key;
  return absl::DataLossError(StrCat("registry ", path_, " is corrupt: the row of a KEK key is malformed"));
}

absl::StatusOr<std::optional<Registry::KekKey>> SqliteTables::FindKekKey(const crypto::KeyId& id) {
  ASSIGN_OR_RETURN(Statement statement, database_->Prepare("SELECT kekId, provider, name, keyWindow, wrappedKey"
                                                           " FROM kekKeys WHERE kekId = ?1"));
  statement.Bind(1, id.bytes);
  return TakeKekKey(statement);
}

absl::StatusOr<std::optional<Registry::KekKey>> SqliteTables::FindKekKey(const KekName& name, int64_t window) {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("SELECT kekId, provider, name, keyWindow, wrappedKey FROM kekKeys"
                                      " WHERE provider = ?1 AND name = ?2 AND keyWindow = ?3"));
  statement.Bind(1, name.provider);
  statement.Bind(2, name.key);
  statement.Bind(3, window);
  return TakeKekKey(statement);
}

absl::Status SqliteTables::InsertKekKey(const Registry::KekKey& key, absl::Time now) {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("INSERT INTO kekKeys (kekId, provider, name, keyWindow, wrappedKey, created)"
                                      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)"));
  statement.Bind(1, key.id.bytes);
  statement.Bind(2, key.name.provider);
  statement.Bind(3, key.name.key);
  statement.Bind(4, key.window);
  statement.Bind(5, key.wrappedKey);
  statement.Bind(6, absl::ToUnixMillis(now));
  return statement.Run();
}

absl::StatusOr<std::vector<Registry::KekKey>> SqliteTables::ListKekKeys(std::string_view provider,
                                                                        std::string_view name,
                                                                        const crypto::KeyId& after, size_t most) {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("SELECT kekId, provider, name, keyWindow, wrappedKey FROM kekKeys WHERE"
                                      " kekId > ?3 AND provider = ?1 AND (?2 = '' OR name = ?2) ORDER BY kekId"
                                      " LIMIT ?4"));
  statement.Bind(1, provider);
  statement.Bind(2, name);
  statement.Bind(3, after.bytes);
  statement.Bind(4, static_cast<int64_t>(most));
  std::vector<Registry::KekKey> keys;
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<Registry::KekKey> key, TakeKekKey(statement));
    if (!key.has_value()) return keys;
    keys.push_back(*std::move(key));
  }
}

absl::StatusOr<bool> SqliteTables::ReplaceKekKey(const Registry::KekKey& before, const ByteBuffer& after) {
  ASSIGN_OR_RETURN(Statement replace,
                   database_->Prepare("UPDATE kekKeys SET wrappedKey = ?1 WHERE kekId = ?2 AND wrappedKey = ?3"));
  replace.Bind(1, after);
  replace.Bind(2, before.id.bytes);
  replace.Bind(3, before.wrappedKey);
  RETURN_IF_ERROR(replace.Run());
  return database_->changes() > 0;
}

absl::StatusOr<std::vector<Registry::KekKey>> SqliteRegistry::FindKekKeys(absl::Span<const crypto::KeyId> ids) {
  std::vector<KekKey> keys;
  for (const crypto::KeyId& id : ids) {
    absl::StatusOr<std::optional<KekKey>> key = tables_->FindKekKey(id);
    if (!key.ok()) return Fail(key.status());
    if (key->has_value()) keys.push_back(**std::move(key));
  }
  return keys;
}

absl::StatusOr<std::optional<Registry::KekKey>> SqliteRegistry::FindKekKey(const KekName& name, int64_t window) {
  absl::StatusOr<std::optional<KekKey>> key = tables_->FindKekKey(name, window);
  if (!key.ok()) return Fail(key.status());
  return key;
}

absl::StatusOr<Registry::KekKey> SqliteRegistry::InsertOrGetKekKey(const KekKey& key, absl::Time now) {
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<std::optional<KekKey>> other = tables_->FindKekKey(key.name, key.window);
  if (!other.ok()) return Fail(other.status());
  if (other->has_value()) return **std::move(other);
  if (absl::Status status = tables_->InsertKekKey(key, now); !status.ok()) return Fail(status);
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return key;
}

absl::StatusOr<std::vector<Registry::KekKey>> SqliteRegistry::ListKekKeys(std::string_view provider,
                                                                          std::string_view name,
                                                                          const crypto::KeyId& after, size_t most) {
  absl::StatusOr<std::vector<KekKey>> keys = tables_->ListKekKeys(provider, name, after, most);
  if (!keys.ok()) return Fail(keys.status());
  return keys;
}

absl::StatusOr<bool> SqliteRegistry::ReplaceKekKey(const KekKey& before, const ByteBuffer& after) {
  const absl::StatusOr<bool> isReplaced = tables_->ReplaceKekKey(before, after);
  if (!isReplaced.ok()) return Fail(isReplaced.status());
  return isReplaced;
}

}  // namespace kveil::keys
