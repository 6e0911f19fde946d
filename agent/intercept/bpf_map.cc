// Copying one map into another.
#include "intercept/bpf_map.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace kveil::intercept {
namespace {

absl::Status Error(std::string_view what) {
  return absl::FailedPreconditionError(StrCat("cannot adopt this map: ", what));
}

}  // namespace

absl::Status CopyEntries(int fromFd, int toFd) {
  bpf_map_info from = {}, to = {};
  uint32_t fromSize = sizeof(from), toSize = sizeof(to);
  if (::bpf_obj_get_info_by_fd(fromFd, &from, &fromSize) < 0 || ::bpf_obj_get_info_by_fd(toFd, &to, &toSize) < 0) {
    return Error(std::strerror(errno));
  }
  if (from.type != BPF_MAP_TYPE_HASH || from.key_size != to.key_size) {
    return Error("its version of kveil is too far from this one; 'kveil detach' takes it away");
  }
  std::vector<char> key(from.key_size), next(from.key_size);
  bool isFirst = true;
  // Nothing deletes entries meanwhile: the walk does not begin anew.
  while (::bpf_map_get_next_key(fromFd, isFirst ? nullptr : key.data(), next.data()) == 0) {
    key.swap(next);
    isFirst = false;
    std::vector<char> value(std::max(from.value_size, to.value_size));
    if (::bpf_map_lookup_elem(fromFd, key.data(), value.data()) < 0) continue;
    // The kernel reads as much as its own version of the value has.
    if (::bpf_map_update_elem(toFd, key.data(), value.data(), BPF_NOEXIST) < 0 && errno != EEXIST) {
      return Error(std::strerror(errno));
    }
  }
  return absl::OkStatus();
}

}  // namespace kveil::intercept
