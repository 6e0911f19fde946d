// Which Kubernetes pod a cgroup belongs to, by its path.
#pragma once

#include <string>
#include <string_view>

namespace kveil::identity {

// Returns the uid of the pod that a cgroup path belongs to, or "". The kubelet names the cgroups of pods, with either
// of its drivers:
//
//   cgroupfs  /kubepods/burstable/pod<uid>/<container>, /kubepods/pod<uid>/... for guaranteed pods
//   systemd   /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope,
//   with
//             "_" for each "-" of the uid
//
// The slices may be below one of the kubelet's own (`--cgroup-root`), such as /kubelet.slice/kubelet-kubepods.slice.
// Only names that root alone can give count: above the pods' cgroup there are only slices, and below a pod's own cgroup
// nothing is looked at, since there a container may choose.
std::string PodUidOf(std::string_view cgroupPath);

}  // namespace kveil::identity
