// `kveil detach`: takes the pinned BPF links away, so that connects to targets go where they always went.
#include <iostream>

#include "cli/common.h"
#include "intercept/kernel/redirect.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {

int RunDetach(const CommonOptions& common) {
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return Fail("detach", config.status());
  const absl::StatusOr<int> links = intercept::Redirect::Detach(config->intercept);
  if (!links.ok()) return Fail("detach", links.status());
  if (common.json) {
    std::cout << nlohmann::json({{"links", *links}}).dump(2) << "\n";
  } else if (*links == 0) {
    std::cout << "nothing was attached at " << config->intercept.pinDirectory << "\n";
  } else {
    std::cout << "took " << *links << " link(s) away; connects to the targets are no longer protected\n";
  }
  return 0;
}

}  // namespace kveil::cli
