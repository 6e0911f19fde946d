// The small subcommands. Each returns the program's exit status: 0, or 1 after one clear line on stderr.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace kveil::cli {

// What every subcommand takes.
struct CommonOptions {
  std::string configPath;  // empty: the default path, or the defaults themselves when there is no such file
  bool json = false;       // print JSON
};

// What the running agent serves and what is wrong. 0 only when it is ready and nothing is wrong.
int RunStatus(const CommonOptions& common);

// Has the running agent read its configuration again, and says what is in force and what needs a restart.
int RunReload(const CommonOptions& common);

// The configuration with every default, as JSON that is a configuration itself.
int RunConfigShow(const CommonOptions& common);

// Destroys a user's keys, in one keyspace or in all of them. `encoding` (formats::kIdEncodingNames) says how the id is
// written, as `as` of a policy does.
int RunErase(const CommonOptions& common, const std::string& user, const std::string& encoding,
             const std::optional<std::string>& keyspace);

// Reads policy files and folders as the agent would; without any, those of the configuration.
int RunPolicyCheck(const CommonOptions& common, const std::vector<std::string>& paths);

// Says what the header value of a sealed record holds, from hex or base64.
int RunInspect(const CommonOptions& common, const std::string& text);

// Takes the pinned BPF links and maps away.
int RunDetach(const CommonOptions& common);

}  // namespace kveil::cli
