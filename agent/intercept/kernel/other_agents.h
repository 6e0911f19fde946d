// Other kveil agents whose programs are attached to the cgroups that this one is about to take.
#pragma once

#include "absl/status/status.h"
#include "intercept/kernel/pins.h"
#include "intercept/system/cgroup_tree.h"

namespace kveil::intercept {

// kFailedPrecondition, in plain words, when a kveil program whose link is not pinned in `pins` is attached to the
// cgroup, one above it or one below it: the two agents would take each other's connections. Where the cgroup's own
// parents are not to be seen, as in a cgroup namespace, what is attached to them is found all the same.
absl::Status CheckNoOtherAgent(const CgroupTree& cgroup, const PinDirectory& pins);

}  // namespace kveil::intercept
