// What the commands that change what is known of users have in common.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/user_commands.h"
#include "cli/commands.h"

namespace kveil::cli {

// Whether the agent made the changes, and all agents know. Says on stderr what is missing, and returns the exit status.
// `openings`: of the answers to the changes.
struct Awaited {
  int status = 0;
  nlohmann::json spread;
};
Awaited AwaitChanges(std::string_view command, const std::string& socket, uint64_t number,
                     const std::vector<std::string>& openings, std::optional<uint64_t> waitSeconds);

// Warns of purposes that no policy of the agent declares.
void WarnOfUndeclared(std::string_view command, const std::vector<std::string>& purposes);

// Warns of a keyspace that no policy of the agent names.
void WarnOfUnnamed(std::string_view command, const std::optional<std::string>& keyspace);

// Makes a few changes of one user, waits for the agents, and prints what became of them. Returns the exit status.
int ChangeUser(std::string_view command, const CommonOptions& common, const UserOptions& who,
               std::vector<admin::ChangeUsersCommand::Change> changes);

// Prints what is known of a user. Returns the exit status.
int ShowUser(std::string_view command, const CommonOptions& common, const UserOptions& who, bool withAttributes,
             bool withHistory);

}  // namespace kveil::cli
