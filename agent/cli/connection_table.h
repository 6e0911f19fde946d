// The connections of an agent as lines of text, for `kveil connections` and `kveil top`.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "admin/connections_command.h"

namespace kveil::cli {

// "1.5 MiB", of a number of bytes
std::string ShortSize(double bytes);

// Lines of columns, the first with their names. Texts of clients are made plain, and long ones are cut off.
std::vector<std::string> ConnectionTable(const std::vector<admin::ConnectionsCommand::Connection>& connections);

// What a connection has done per second between two answers of the agent.
struct Rates {
  double requestBytes = 0, responseBytes = 0, sealed = 0, opened = 0, denied = 0;

  double bytes() const { return requestBytes + responseBytes; }
};

// Makes rates of the differences between answers.
class RateMeter {
 public:
  using Connection = admin::ConnectionsCommand::Connection;
  using Time = std::chrono::steady_clock::time_point;

  // Of each connection of `now`, in its order: what has changed since the last call. nullopt: it was not there then, or
  // the agent was started anew.
  std::vector<std::optional<Rates>> Of(const std::vector<Connection>& now, Time time);

 private:
  Time last_;
  absl::flat_hash_map<uint64_t, Connection> before_;  // by id
};

// As ConnectionTable, with rates in place of what has come together, the busiest first. `rates`: one of each.
std::vector<std::string> RateTable(const std::vector<admin::ConnectionsCommand::Connection>& connections,
                                   const std::vector<std::optional<Rates>>& rates);

}  // namespace kveil::cli
