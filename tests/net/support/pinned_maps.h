// Looks into the maps that an agent has pinned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "intercept/kernel/redirect.h"

namespace kveil::nettest {

// The pinned map of this name, whatever its version.
UniqueFd PinnedMap(const std::string& pinDirectory, const std::string& name);

// How many elements a pinned map holds that is not socket storage.
size_t CountElements(const intercept::Redirect& redirect, const std::string& map);
// The sum of what the workloads' shares say of the map `interim`.
int64_t SumOfWaiting(const intercept::Redirect& redirect);

}  // namespace kveil::nettest
