// Points out what is valid in a policy but seldom meant.
#pragma once

#include <string>
#include <vector>

#include "policy/policy.h"

namespace kveil::policy {

// One line per finding, which names the file and the entry.
std::vector<std::string> AdviceOn(const Policy& policy);

}  // namespace kveil::policy
