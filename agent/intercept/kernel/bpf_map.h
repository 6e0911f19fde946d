// Walking BPF maps from user space.
#pragma once

#include <bpf/bpf.h>

#include <cstring>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace kveil::intercept {

// Calls `visit` for each entry of a hash map. Entries that come and go meanwhile may or may not be among them; one that
// stays is visited once, whatever workloads do to the others meanwhile.
absl::Status ForEachEntry(int mapFd, absl::FunctionRef<void(const void* key, const void* value)> visit);

// All keys at this moment.
template <typename Key>
std::vector<Key> KeysOf(int mapFd) {
  std::vector<Key> keys;
  (void)ForEachEntry(mapFd,
                     [&keys](const void* key, const void*) { std::memcpy(&keys.emplace_back(), key, sizeof(Key)); });
  return keys;
}

// Copies the entries of a hash map into one of another version, but for keys that are there already. Values are copied
// as far as both versions go, and the rest is zero: what is added to a struct must be good as zero. kFailedPrecondition
// when the keys are of another kind, or there is no room.
absl::Status CopyEntries(int fromFd, int toFd);

}  // namespace kveil::intercept
