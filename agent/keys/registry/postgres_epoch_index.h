// Builds the index that the end of a turn needs, where a registry was made by a version that had none.
#pragma once

#include <initializer_list>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "keys/registry/postgres_connector.h"

namespace kveil::keys {

// On a connection of its own, as that takes minutes in a large registry, and CONCURRENTLY, so that no agent waits for
// it. Of all agents, one builds: the one that leads the turn. If that one ends meanwhile, the server finishes the work
// all the same, or ends it. Then the agent that leads by then looks, and begins anew if it has to.
class PostgresEpochIndex {
 public:
  using Deadline = PostgresConnection::Deadline;

  explicit PostgresEpochIndex(PostgresOptions options) : connector_(std::move(options)) {}

  // Begins, or goes on. OK: it is there. kAborted: it is being built. kUnavailable: it cannot be built, and why. Ask
  // again.
  absl::Status Build(Deadline deadline);
  // Lets another agent build, which leads the turn now.
  void Leave() { connection_.reset(); }

 private:
  enum class Step { kLook, kDrop, kMake };
  // Whether it is there.
  absl::StatusOr<bool> Advance(Deadline deadline);
  absl::Status Send(Step step, std::initializer_list<const char*> statements);

  PostgresConnector connector_;
  std::unique_ptr<PostgresConnection> connection_;  // while there is something to do
  Step step_ = Step::kLook;
};

}  // namespace kveil::keys
