// Finds pinned maps by their names.
#include "support/pinned_maps.h"

#include <bpf/bpf.h>

#include <filesystem>

#include "intercept.h"
#include "intercept/kernel/bpf_map.h"
#include "support/node.h"

namespace kveil::nettest {
UniqueFd PinnedMap(const std::string& pinDirectory, const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator(pinDirectory)) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with("map_v") && file.substr(file.find('_', 5) + 1) == name) {
      UniqueFd map(::bpf_obj_get(entry.path().c_str()));
      Require(map.valid(), "opening " + file);
      return map;
    }
  }
  Require(false, "there is no pinned map " + name);
  return UniqueFd();
}

size_t CountElements(const intercept::Redirect& redirect, const std::string& map) {
  const UniqueFd fd = PinnedMap(redirect.config().pinDirectory, map);
  size_t count = 0;
  const absl::Status walked = intercept::ForEachEntry(fd.get(), [&](const void*, const void*) { ++count; });
  Require(walked.ok(), "walking the map " + map);
  return count;
}

int64_t SumOfWaiting(const intercept::Redirect& redirect) {
  const UniqueFd shares = PinnedMap(redirect.config().pinDirectory, "shares");
  int64_t sum = 0;
  for (uint32_t slot = 0; slot < KVEIL_SHARES; ++slot) {
    kveil_share share;
    Require(::bpf_map_lookup_elem(shares.get(), &slot, &share) == 0, "reading a share");
    sum += share.waiting;
  }
  return sum;
}

}  // namespace kveil::nettest
