// Maps cgroup ids to paths, units and shares, and remembers them.
#include "intercept/workloads/workloads.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "identity/cgroup_path.h"
#include "identity/pod_cgroup.h"
#include "intercept/system/cgroup_tree.h"

namespace kveil::intercept {
namespace {

// Ids are never given twice, so an entry is never wrong; the bound is for the memory alone.
constexpr size_t kMostRemembered = 16384;

}  // namespace

struct Workloads::State {
  struct Known {
    std::string path, unit, share, podUid;
  };
  CgroupTree tree;
  Mutex mutex;
  absl::flat_hash_map<uint64_t, Known> known ABSL_GUARDED_BY(mutex);  // by cgroup id
};

Workloads::Workloads(std::unique_ptr<State> state) : state_(std::move(state)) {}
Workloads::~Workloads() = default;

absl::StatusOr<std::unique_ptr<Workloads>> Workloads::Open(const std::string& cgroup) {
  absl::StatusOr<CgroupTree> tree = CgroupTree::Open(cgroup);
  if (!tree.ok()) return tree.status();
  auto state = std::make_unique<State>();
  state->tree = *std::move(tree);
  return std::unique_ptr<Workloads>(new Workloads(std::move(state)));
}

identity::Workload Workloads::Find(const identity::Origin& origin) {
  identity::Workload workload{
      .cgroupPath = "", .unit = "", .share = "", .podUid = "", .uid = origin.uid, .pid = origin.pid};
  const MutexLock lock(state_->mutex);
  auto known = state_->known.find(origin.cgroupId);
  if (known == state_->known.end()) {
    absl::StatusOr<std::string> path = state_->tree.PathOf(origin.cgroupId);
    if (!path.ok()) {
      workload.share = state_->tree.ShareOf(origin.cgroupId, origin.shareCgroupId);
      return workload;
    }
    if (state_->known.size() == kMostRemembered) state_->known.clear();
    State::Known found{.path = "",
                       .unit = identity::UnitOf(*path),
                       .share = state_->tree.ShareOf(*path),
                       .podUid = identity::PodUidOf(*path)};
    found.path = *std::move(path);
    known = state_->known.emplace(origin.cgroupId, std::move(found)).first;
  }
  workload.cgroupPath = known->second.path;
  workload.unit = known->second.unit;
  workload.share = known->second.share;
  workload.podUid = known->second.podUid;
  return workload;
}

}  // namespace kveil::intercept
