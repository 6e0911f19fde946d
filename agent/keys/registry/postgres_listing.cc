// What PostgresRegistry does to list its keys.
#include <algorithm>

#include "base/status_macros.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {

absl::StatusOr<Registry::KeyList> PostgresRegistry::ListKeys(std::string_view from, size_t most) {
  PostgresParameters asked;
  asked.Add(AsBytes(from)).Add(static_cast<int64_t>(most) + 1);
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kListKeys, asked));
  const PostgresResult& rows = results.at(0);
  KeyList list;
  if (rows.size() > most) list.next = rows.TextAt(most, 0);
  for (size_t i = 0; i < std::min(rows.size(), most); ++i) {
    KeyInfo key;
    key.scope = static_cast<Scope>(rows.IntegerAt(i, 1));
    key.name.window = rows.IntegerAt(i, 3);
    key.epoch = rows.IntegerAt(i, 4);
    key.made = absl::FromUnixMillis(rows.IntegerAt(i, 6));
    if (rows.IntegerAt(i, 5) == kErased) key.erased = absl::FromUnixMillis(rows.IntegerAt(i, 7));
    if (!CopyTo(key.id.bytes, rows.BytesAt(i, 0)) || !CopyTo(key.name.subject, rows.BytesAt(i, 2))) continue;
    list.keys.push_back(key);
  }
  return list;
}

}  // namespace kveil::keys
