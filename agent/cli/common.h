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

// Writes "kveil COMMAND: warning: message" to stderr, on one line.
void Warn(std::string_view command, std::string_view message);

// Writes "kveil COMMAND: message" to stderr, on one line, and returns 1. An empty command: "kveil: message".
int Fail(std::string_view command, std::string_view message);
int Fail(std::string_view command, const absl::Status& status);

}  // namespace kveil::cli
