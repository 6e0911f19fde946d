// Walks the links of the kernel.
#include "intercept/kernel/other_agents.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/text.h"

namespace kveil::intercept {
namespace {

// A program of kveil, of any version, has this name, and uses this map.
constexpr std::string_view kProgram = "connect4";
constexpr std::string_view kMap = "own_sockets";

template <typename Info>
bool Read(int fd, Info& info) {
  uint32_t size = sizeof(info);
  return fd >= 0 && ::bpf_obj_get_info_by_fd(fd, &info, &size) == 0;
}

bool IsKveils(uint32_t programId) {
  const UniqueFd fd(::bpf_prog_get_fd_by_id(programId));
  std::array<uint32_t, 64> maps = {};
  bpf_prog_info info = {};
  info.nr_map_ids = maps.size();
  info.map_ids = reinterpret_cast<uint64_t>(maps.data());
  if (!Read(fd.get(), info) || info.name != kProgram) return false;
  return std::any_of(maps.begin(), maps.begin() + std::min<size_t>(info.nr_map_ids, maps.size()), [](uint32_t id) {
    const UniqueFd map(::bpf_map_get_fd_by_id(id));
    bpf_map_info info = {};
    return Read(map.get(), info) && info.name == kMap;
  });
}

absl::flat_hash_set<uint32_t> IdsOf(const std::vector<UniqueFd>& links) {
  absl::flat_hash_set<uint32_t> ids;
  for (const UniqueFd& link : links) {
    bpf_link_info info = {};
    if (Read(link.get(), info)) ids.insert(info.id);
  }
  return ids;
}

// The programs that run for a process in this cgroup: its own and those of all its parents.
absl::flat_hash_set<uint32_t> EffectivePrograms(const CgroupTree& cgroup) {
  std::array<uint32_t, 64> ids = {};  // the kernel allows no more
  uint32_t count = ids.size();
  if (::bpf_prog_query(cgroup.fd(), BPF_CGROUP_INET4_CONNECT, BPF_F_QUERY_EFFECTIVE, nullptr, ids.data(), &count) < 0) {
    return {};
  }
  return {ids.begin(), ids.begin() + std::min<size_t>(count, ids.size())};
}

std::string NameOf(uint64_t cgroupId, const CgroupTree& cgroup) {
  if (cgroupId == cgroup.id()) return cgroup.path();
  const absl::StatusOr<std::string> path = cgroup.PathOf(cgroupId);
  return path.ok() ? cgroup.mountPoint() + *path : StrCat("cgroup ", cgroupId);
}

}  // namespace

absl::Status CheckNoOtherAgent(const CgroupTree& cgroup, const PinDirectory& pins) {
  const absl::flat_hash_set<uint32_t> own = IdsOf(pins.Links());
  const absl::flat_hash_set<uint32_t> here = EffectivePrograms(cgroup);
  for (uint32_t id = 0; ::bpf_link_get_next_id(id, &id) == 0;) {
    const UniqueFd link(::bpf_link_get_fd_by_id(id));
    bpf_link_info info = {};
    if (!Read(link.get(), info) || info.type != BPF_LINK_TYPE_CGROUP ||
        info.cgroup.attach_type != BPF_CGROUP_INET4_CONNECT || own.contains(id)) {
      continue;
    }
    const absl::StatusOr<bool> isBelow = cgroup.Contains(info.cgroup.cgroup_id);
    if (!here.contains(info.prog_id) && isBelow.ok() && !*isBelow) continue;
    if (!IsKveils(info.prog_id)) continue;
    if (!isBelow.ok()) return isBelow.status();
    return absl::FailedPreconditionError(
        StrCat("another kveil agent is attached to ", NameOf(info.cgroup.cgroup_id, cgroup), " (program ", kProgram,
               ", id ", info.prog_id, "), with other pins than this one's: two agents would take each other's ",
               "connections. End it and run `kveil detach` with its configuration"));
  }
  return absl::OkStatus();
}

}  // namespace kveil::intercept
