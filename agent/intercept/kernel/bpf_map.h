// Walks and copies BPF maps from user space.
#pragma once

#include <bpf/bpf.h>

#include <cstring>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace kveil::intercept {

// Calls `visit` for each entry of a hash map. It may miss entries that come or go meanwhile; an entry that stays is
// visited once, whatever workloads do to the others.
absl::Status ForEachEntry(int mapFd, absl::FunctionRef<void(const void* key, const void* value)> visit);

// All keys at this moment.
template <typename Key>
std::vector<Key> KeysOf(int mapFd) {
  std::vector<Key> keys;
  (void)ForEachEntry(mapFd,
                     [&keys](const void* key, const void*) { std::memcpy(&keys.emplace_back(), key, sizeof(Key)); });
  return keys;
}

// Copies the entries of a hash map into one of another version, except for keys that are there already. Values are cut,
// or filled with zeros, to their new size: zero must be valid for what is added to a struct. kFailedPrecondition: the
// keys are of another kind, or there is no room.
absl::Status CopyEntries(int fromFd, int toFd);

}  // namespace kveil::intercept
