// The configuration written out again, with every default.
#pragma once

#include "config/config.h"
#include "nlohmann/json.hpp"

namespace kveil::config {

// A document that ParseConfig reads back to the same configuration. It has no secrets, as a configuration has none:
// they are in the files that it names.
nlohmann::ordered_json ToJson(const AgentConfig& config);

}  // namespace kveil::config
