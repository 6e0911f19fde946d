// What a registry in an SQLite file and one in PostgreSQL have in common, table by table: the one list of what goes
// along when the one is copied to the other. registry_copy_test.cc holds it against the tables of both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "absl/types/span.h"
#include "base/bytes.h"

namespace kveil::keys {

struct CopiedColumn {
  enum class Type {
    kInteger,
    kBytes,
    kText,  // bytes in PostgreSQL
    kTime,  // by the clock that decides on it, which is another one from now on: Unix milliseconds
  };
  const char* from;  // in the SQLite file
  const char* to;    // in PostgreSQL
  Type type = Type::kInteger;
};

inline bool IsBytes(const CopiedColumn& column) {
  return column.type == CopiedColumn::Type::kBytes || column.type == CopiedColumn::Type::kText;
}

struct CopiedTable {
  const char* name;    // in PostgreSQL
  const char* source;  // what follows FROM in SQLite
  size_t keySize;      // so many of the first columns are the key. Rows are copied in its order
  std::vector<CopiedColumn> columns;
  size_t indexed = 0;  // bytes of the first column that the file has an index of; 0: all of the key
};

// Without the registry's own row, which comes last, and without the agents, which are none while it is copied.
absl::Span<const CopiedTable> CopiedTables();

// NULL, an integer or bytes.
using CopiedValue = std::variant<std::monostate, int64_t, ByteBuffer>;

}  // namespace kveil::keys
