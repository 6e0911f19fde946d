// `kveil config show`: the configuration with every default, as an agent that starts now would have it.
#include <iostream>

#include "cli/common.h"
#include "config/config_text.h"

namespace kveil::cli {

int RunConfigShow(const CommonOptions& common) {
  const std::string path = common.configPath.empty() ? config::kDefaultConfigPath : common.configPath;
  const absl::StatusOr<config::AgentConfig> config = config::LoadConfig(path);
  if (!config.ok()) return Fail("config show", config.status());
  std::cout << config::ToJson(*config).dump(2) << "\n";
  return 0;
}

}  // namespace kveil::cli
