// What the small subcommands share: the configuration, and how they fail.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/commands.h"
#include "config/config.h"

namespace kveil::cli {

// The configuration that the options name. Without a name and without a file at the default path, the defaults.
absl::StatusOr<config::AgentConfig> ReadConfig(const CommonOptions& common);

// The socket of the running agent, as the configuration that the options name has it. Nothing else of it is read: it
// may need the environment that the agent has, and a prompt does not.
absl::StatusOr<std::string> AdminSocket(const CommonOptions& common);

// Writes "kveil COMMAND: warning: message" to stderr, on one line.
void Warn(std::string_view command, std::string_view message);

// Writes "kveil COMMAND: message" to stderr, on one line, and returns 1. An empty command: "kveil: message".
int Fail(std::string_view command, std::string_view message);
int Fail(std::string_view command, const absl::Status& status);

}  // namespace kveil::cli
