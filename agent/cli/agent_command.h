// `kveil agent`: the agent itself, in the foreground.
#pragma once

#include <string>

namespace kveil::cli {

// Runs until SIGTERM or SIGINT, logging to stderr. Returns the program's exit status; non-zero with one clear line when
// the agent could not start.
int RunAgent(const std::string& configPath);

// Reads what the agent would read and changes nothing. Returns 0, or 1 after a line on stderr about the first error.
int CheckAgentFiles(const std::string& configPath);

}  // namespace kveil::cli
