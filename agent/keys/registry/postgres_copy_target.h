// A registry in PostgreSQL that is being filled. No agent opens it before it is whole.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "keys/registry/copied_tables.h"
#include "keys/registry/postgres.h"
#include "keys/registry/postgres_connector.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

// One connection, used by one thread. Errors are those of PostgresConnection; after one, it is of no more use.
class PostgresCopyTarget {
 public:
  using Deadline = PostgresConnection::Deadline;

  // kUnavailable when the server is not reached by the deadline.
  static absl::StatusOr<std::unique_ptr<PostgresCopyTarget>> Connect(PostgresOptions options, Deadline deadline);

  const std::string& name() const { return connector_.name(); }

  enum class State {
    kEmpty,       // the database holds nothing of kveil's
    kUnfinished,  // a copy that is not whole
    kRegistry,    // a registry, which agents may use
    kForeign,     // something else, or a registry of another version
  };
  struct Content {
    State state = State::kEmpty;
    bool hasSchema = false;
    ByteBuffer token;              // kUnfinished: of the copy
    bool isOfThisVersion = true;   // kUnfinished: whether its tables are those that this version makes
    std::optional<RegistryId> id;  // kRegistry: nullopt when it is empty
  };
  absl::StatusOr<Content> Look();

  // kEmpty becomes kUnfinished. An error when another one was quicker.
  absl::Status Claim(const Content& content, Bytes token);
  // The key of the last row. Empty: there are no rows.
  absl::StatusOr<std::vector<CopiedValue>> ReadPlace(const CopiedTable& table);
  absl::StatusOr<uint64_t> Count(const CopiedTable& table);
  // Adds rows, all or none.
  absl::Status Add(const CopiedTable& table, absl::Span<const std::vector<CopiedValue>> rows);
  // kUnfinished becomes kRegistry. Numbers of erasures and changes go on behind `lastNumber`.
  absl::Status Finish(const Registry::Identity& identity, int64_t created, int64_t lastNumber);

 private:
  explicit PostgresCopyTarget(PostgresOptions options) : connector_(std::move(options)) {}
  absl::StatusOr<std::vector<PostgresResult>> Call(absl::Span<const PostgresStatement> statements);
  absl::Status Prepare(const CopiedTable& table);

  PostgresConnector connector_;
  std::unique_ptr<PostgresConnection> connection_;
  int64_t clockAhead_ = 0;                 // the server's clock, in milliseconds before this one
  const CopiedTable* prepared_ = nullptr;  // that the statement is for which adds rows
};

}  // namespace kveil::keys
