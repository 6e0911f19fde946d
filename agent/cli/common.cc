// What the small subcommands share.
#include "cli/common.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "base/log.h"
#include "base/text.h"

namespace kveil::cli {

absl::StatusOr<config::AgentConfig> ReadConfig(const CommonOptions& common) {
  if (!common.configPath.empty()) return config::LoadConfig(common.configPath);
  if (::access(config::kDefaultConfigPath, F_OK) != 0) return config::AgentConfig();
  return config::LoadConfig(config::kDefaultConfigPath);
}

absl::StatusOr<std::string> AdminSocket(const CommonOptions& common) {
  const std::string path = common.configPath.empty() ? config::kDefaultConfigPath : common.configPath;
  if (common.configPath.empty() && ::access(path.c_str(), F_OK) != 0) return config::AdminConfig().socket;
  absl::StatusOr<config::AdminConfig> admin = config::LoadAdminConfig(path);
  if (!admin.ok()) return admin.status();
  return std::move(admin->socket);
}

void Warn(std::string_view command, std::string_view message) { Fail(command, StrCat("warning: ", message)); }

int Fail(std::string_view command, std::string_view message) {
  std::string line = StrCat(command.empty() ? "kveil" : "kveil ", command, ": ", message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::cout.flush();
  // Behind the log's lines. Where nobody reads those, this one would wait for ever.
  if (log::Flush()) std::cerr << line << std::endl;
  return 1;
}

int Fail(std::string_view command, const absl::Status& status) { return Fail(command, ToStd(status.message())); }

}  // namespace kveil::cli
