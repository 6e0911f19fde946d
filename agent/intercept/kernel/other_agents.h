// Finds other kveil agents whose programs are attached to the cgroups that this one is about to take.
#pragma once

#include "absl/status/status.h"
#include "intercept/kernel/pins.h"
#include "intercept/system/cgroup_tree.h"

namespace kveil::intercept {

// kFailedPrecondition: a kveil program whose link is not pinned in `pins` is attached to the cgroup, to one above it or
// to one below it, so the two agents would take each other's connections. Finds programs attached to the cgroup's
// parents even if those cannot be seen, as in a cgroup namespace.
absl::Status CheckNoOtherAgent(const CgroupTree& cgroup, const PinDirectory& pins);

}  // namespace kveil::intercept
