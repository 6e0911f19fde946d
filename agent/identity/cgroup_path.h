// What a cgroup's path says about the workload in it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace kveil::identity {

// Whether `path` is `directory` or below it: "/a" holds "/a/b" and not "/ab".
bool IsBelow(std::string_view path, std::string_view directory);

// Returns the systemd unit that a cgroup path belongs to, or "". It is the outermost one: a unit chooses the names of
// the cgroups below itself (delegation), so a name found there proves nothing. A unit of a user's manager is named with
// its manager, "user@1000.service/foo.service", because users choose the names of their units. Below a pod ("kubepods")
// there is no unit.
std::string UnitOf(std::string_view cgroupPath);

// Returns the cgroup that a process in `cgroupPath` cannot leave without a privilege: the one at `level` below
// `intercepted` (a pod, a container, a user's manager with all that it starts), or its own cgroup if that is higher up,
// or the first one that is delegated. `isDelegated` says whether a path's owner, who may make cgroups below it, is not
// root. Outside of `intercepted`, levels count from the root. All paths start at the mount's root. The kernel half
// counts in the same way, except that it does not see owners: bpf/shares.bpf.h.
std::string ShareOf(std::string_view cgroupPath, std::string_view intercepted, int level,
                    const std::function<bool(const std::string& path)>& isDelegated);

}  // namespace kveil::identity
