// Walking BPF maps from user space.
#pragma once

#include <bpf/bpf.h>

#include <vector>

#include "absl/status/status.h"

namespace kveil::intercept {

// All keys at this moment. Elements that come and go meanwhile may or may not be among them.
template <typename Key>
std::vector<Key> KeysOf(int mapFd) {
  std::vector<Key> keys;
  Key key;
  const Key* previous = nullptr;
  // A deleted `previous` makes the kernel begin again; the bound ends that.
  constexpr size_t kMost = 1 << 20;
  while (keys.size() < kMost && ::bpf_map_get_next_key(mapFd, previous, &key) == 0) {
    keys.push_back(key);
    previous = &keys.back();
  }
  return keys;
}

// Copies the entries of a hash map into one of another version, but for keys that are there already. Values are copied
// as far as both versions go, and the rest is zero: what is added to a struct must be good as zero. kFailedPrecondition
// when the keys are of another kind, or there is no room.
absl::Status CopyEntries(int fromFd, int toFd);

}  // namespace kveil::intercept
