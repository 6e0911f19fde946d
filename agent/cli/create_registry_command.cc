// `kveil keys create-registry`: makes the registry for a root key that was made before it.
#include <iostream>

#include "cli/common.h"
#include "daemon/key_store.h"

namespace kveil::cli {

int RunCreateRegistry(const CommonOptions& common) {
  constexpr std::string_view kCommand = "keys create-registry";
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return Fail(kCommand, config.status());
  const absl::StatusOr<std::string> registry = daemon::MakeRegistry(config->keys);
  if (!registry.ok()) return Fail(kCommand, registry.status());
  std::cout << "made " << *registry << "\n";
  return 0;
}

}  // namespace kveil::cli
