// What a cgroup's path says of who lives there.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace kveil::identity {

// Whether `path` is `directory` or below it: "/a" holds "/a/b" and not "/ab".
bool IsBelow(std::string_view path, std::string_view directory);

// The systemd unit that a cgroup path belongs to, empty if none. The outermost one: what a unit makes below itself
// (delegation) bears names of its own choosing, so a name found there proves nothing. A unit of a user's manager is
// named with its manager, "user@1000.service/foo.service", because any user can give it any name. Below a pod
// ("kubepods") there is no unit.
std::string UnitOf(std::string_view cgroupPath);

// The cgroup that whoever is in `cgroupPath` cannot leave without a right: at `level` below `intercepted` (a pod; a
// container; the manager of a user, with all that it starts), or its own one where that is higher up, or the first one
// that is delegated: `isDelegated` says of a path whether its owner, who makes cgroups below it at will, is not root.
// For who is outside of `intercepted`, levels count from the root. All are paths from the mount's root. The kernel half
// counts just so, but that it does not see owners: bpf/shares.bpf.h.
std::string ShareOf(std::string_view cgroupPath, std::string_view intercepted, int level,
                    const std::function<bool(const std::string& path)>& isDelegated);

}  // namespace kveil::identity
