// Walks and copies BPF maps.
#include "intercept/kernel/bpf_map.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace kveil::intercept {
namespace {

absl::Status Error(std::string_view what) {
  return absl::FailedPreconditionError(StrCat("cannot adopt this map: ", what));
}

constexpr uint32_t kBatch = 1024;

}  // namespace

// In batches, which go from bucket to bucket. A walk from key to key starts over when its current key is deleted, which
// workloads could cause forever.
absl::Status ForEachEntry(int mapFd, absl::FunctionRef<void(const void* key, const void* value)> visit) {
  bpf_map_info info = {};
  uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(mapFd, &info, &size) < 0) return absl::InternalError(std::strerror(errno));
  uint32_t capacity = kBatch, position = 0;
  std::vector<char> keys(size_t{capacity} * info.key_size), values(size_t{capacity} * info.value_size);
  bool isFirst = true;
  for (;;) {
    uint32_t count = capacity, next = 0;
    const int result = ::bpf_map_lookup_batch(mapFd, isFirst ? nullptr : &position, &next, keys.data(), values.data(),
                                              &count, nullptr);
    const int error = result < 0 ? errno : 0;
    if (error == ENOSPC) {  // a bucket with more entries than that
      capacity *= 2;
      keys.resize(size_t{capacity} * info.key_size);
      values.resize(size_t{capacity} * info.value_size);
      continue;
    }
    if (error != 0 && error != ENOENT) return absl::InternalError(std::strerror(error));
    for (uint32_t i = 0; i < count; ++i) {
      visit(keys.data() + size_t{i} * info.key_size, values.data() + size_t{i} * info.value_size);
    }
    if (error == ENOENT) return absl::OkStatus();
    isFirst = false;
    position = next;
  }
}

absl::Status CopyEntries(int fromFd, int toFd) {
  bpf_map_info from = {}, to = {};
  uint32_t fromSize = sizeof(from), toSize = sizeof(to);
  if (::bpf_obj_get_info_by_fd(fromFd, &from, &fromSize) < 0 || ::bpf_obj_get_info_by_fd(toFd, &to, &toSize) < 0) {
    return Error(std::strerror(errno));
  }
  if (from.type != BPF_MAP_TYPE_HASH || from.key_size != to.key_size) {
    return Error("its version of kveil is too far from this one; 'kveil detach' takes it away");
  }
  int error = 0;
  std::vector<char> whole(std::max(from.value_size, to.value_size));
  absl::Status walked = ForEachEntry(fromFd, [&](const void* key, const void* value) {
    std::memcpy(whole.data(), value, from.value_size);
    // The kernel reads as much as its own version of the value has.
    if (::bpf_map_update_elem(toFd, key, whole.data(), BPF_NOEXIST) < 0 && errno != EEXIST) error = errno;
  });
  if (walked.ok() && error != 0) return Error(std::strerror(error));
  return walked;
}

}  // namespace kveil::intercept
