// `kveil agent`: the agent itself, in the foreground.
#pragma once

#include <string>

namespace kveil::cli {

// Runs until SIGTERM or SIGINT, logging to stderr. Returns the program's exit status; non-zero with one clear line when
// the agent could not start.
int RunAgent(const std::string& configPath);

}  // namespace kveil::cli
