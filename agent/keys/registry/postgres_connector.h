// Finds the server of a PostgreSQL registry that can be written to, and connects to it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "keys/registry/postgres.h"

namespace kveil::keys {

// What a connection string says, taken apart. `parameters` are libpq's, all but host, hostaddr and port.
struct PostgresOptions {
  struct Server {
    std::string host;     // a name, an address, or the folder of a Unix socket
    std::string address;  // of the host; empty: look it up
    std::string port;
  };
  std::vector<Server> servers;  // of one primary and its standbys
  std::vector<PostgresConnection::Parameter> parameters;
};

// Connecting may take longer than the call that needs it may wait, so each call goes on where the last one stopped.
// Servers are tried in order, and every address that a name stands for. A standby does not count: after a failover, the
// server that is the primary then is found. Between rounds there is a pause, longer each time and drawn at random, so
// that a server that comes back does not meet all agents at once.
class PostgresConnector {
 public:
  using Deadline = PostgresConnection::Deadline;

  explicit PostgresConnector(PostgresOptions options);

  // "registry postgresql://HOST:PORT,.../DATABASE", without user and secrets.
  const std::string& name() const { return name_; }

  // kUnavailable with the reasons of all servers, or while none of them has answered yet.
  absl::StatusOr<std::unique_ptr<PostgresConnection>> Connect(Deadline deadline);
  // The last connection serves its purpose: the next round begins at once.
  void NoteGood() { failedRounds_ = 0; }

 private:
  class Lookup;

  // The addresses of the current server. nullopt: the deadline came first.
  absl::StatusOr<std::optional<std::vector<std::string>>> Addresses(Deadline deadline);
  void Begin(const std::string& address, Deadline deadline);
  void NoteFailure(const absl::Status& error);
  absl::Status EndRound();

  const PostgresOptions options_;
  const std::string name_;
  std::shared_ptr<Lookup> lookup_;
  size_t server_ = 0;
  std::vector<std::string> addresses_;  // of the server, still to be tried
  std::unique_ptr<PostgresConnection> attempt_;
  Deadline attemptEnd_;
  std::vector<std::string> errors_;  // of this round
  int failedRounds_ = 0;
  Deadline notBefore_;
  absl::Status lastRound_;
  std::minstd_rand random_{std::random_device()()};
};

}  // namespace kveil::keys
