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

// How many elements the pinned maps hold that are not socket storage.
struct MapCounts {
  size_t interim = 0;
  int64_t counted = 0;  // the sum of what the workloads' shares say of interim
  size_t learned = 0, served = 0, sources = 0, listening = 0;
};
MapCounts CountMapElements(const intercept::Redirect& redirect);

}  // namespace kveil::nettest
