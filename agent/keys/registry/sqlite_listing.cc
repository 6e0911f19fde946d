// What an SQLite registry does to list its keys.
#include "base/status_macros.h"
#include "keys/registry/sqlite_registry.h"
#include "keys/registry/sqlite_tables.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {

absl::StatusOr<Registry::KeyList> SqliteTables::ListKeys(std::string_view from, size_t most) {
  // substr() of nothing is NULL.
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare("SELECT keyId, scope, subject, keyWindow, epoch, state, created, erased"
                         " FROM keyRows WHERE substr(keyId, 1, 4) >= coalesce(substr(?1, 1, 4), x'') AND keyId >= ?1"
                         " ORDER BY substr(keyId, 1, 4), keyId LIMIT ?2"));
  statement.Bind(1, AsBytes(from));
  statement.Bind(2, static_cast<int64_t>(most) + 1);
  Registry::KeyList list;
  for (size_t rows = 0;; ++rows) {
    ASSIGN_OR_RETURN(const bool isThere, statement.Step());
    if (!isThere) return list;
    if (rows == most) {
      list.next = AsText(statement.BlobAt(0));
      return list;
    }
    Registry::KeyInfo key;
    key.scope = static_cast<Scope>(statement.IntegerAt(1));
    key.name.window = statement.IntegerAt(3);
    key.epoch = statement.IntegerAt(4);
    key.made = absl::FromUnixMillis(statement.IntegerAt(6));
    if (statement.IntegerAt(5) == kErased) key.erased = absl::FromUnixMillis(statement.IntegerAt(7));
    if (!CopyTo(key.id.bytes, statement.BlobAt(0)) || !CopyTo(key.name.subject, statement.BlobAt(2))) continue;
    list.keys.push_back(key);
  }
}

absl::StatusOr<Registry::KeyList> SqliteRegistry::ListKeys(std::string_view from, size_t most) {
  absl::StatusOr<KeyList> list = tables_->ListKeys(from, most);
  if (!list.ok()) return Fail(list.status());
  return list;
}

}  // namespace kveil::keys
