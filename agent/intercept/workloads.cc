// Cgroup ids to paths, units and shares, remembered.
#include "intercept/workloads.h"

#include <mutex>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "intercept/cgroup_tree.h"

namespace kveil::intercept {
namespace {

// Ids are never given twice, so an entry is never wrong; the bound is for the memory alone.
constexpr size_t kMostRemembered = 16384;

bool IsUnit(absl::string_view component) {
  for (const absl::string_view suffix : {".service", ".scope", ".socket", ".mount", ".swap"}) {
    if (component.size() > suffix.size() && absl::EndsWith(component, suffix)) return true;
  }
  return false;
}

bool IsSlice(absl::string_view component) { return absl::EndsWith(component, ".slice"); }

bool IsPods(absl::string_view component) {
  return component == "kubepods" || absl::StartsWith(component, "kubepods.") ||
         absl::StartsWith(component, "kubepods-");
}

bool IsUserManager(absl::string_view unit) {
  return absl::StartsWith(unit, "user@") && absl::EndsWith(unit, ".service");
}

// systemd puts "_" before a name that would be mistaken for one of the cgroup file system's own (cg_escape).
absl::string_view Unescaped(absl::string_view component) {
  absl::ConsumePrefix(&component, "_");
  return component;
}

}  // namespace

std::string UnitOf(std::string_view cgroupPath) {
  std::string manager;
  for (absl::string_view component : absl::StrSplit(ToAbsl(cgroupPath), '/', absl::SkipEmpty())) {
    component = Unescaped(component);
    if (IsPods(component)) return "";
    if (IsSlice(component)) continue;
    // Only slices stand above a unit of the node's systemd. Below anything else (a container's directory) whoever owns
    // that chooses the names.
    if (!IsUnit(component)) return manager;
    if (!manager.empty()) return StrCat(manager, "/", component);
    if (!IsUserManager(component)) return std::string(component);
    manager = std::string(component);
  }
  return manager;
}

struct Workloads::State {
  struct Known {
    std::string path, unit, share;
  };
  CgroupTree tree;
  std::mutex mutex;
  absl::flat_hash_map<uint64_t, Known> known;  // by cgroup id
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

policy::Workload Workloads::Find(const Origin& origin) {
  policy::Workload workload{.cgroupPath = "", .unit = "", .share = "", .uid = origin.uid, .pid = origin.pid};
  const std::lock_guard lock(state_->mutex);
  auto known = state_->known.find(origin.cgroupId);
  if (known == state_->known.end()) {
    absl::StatusOr<std::string> path = state_->tree.PathOf(origin.cgroupId);
    if (!path.ok()) {
      workload.share = state_->tree.ShareOf(origin.cgroupId, origin.shareCgroupId);
      return workload;
    }
    if (state_->known.size() == kMostRemembered) state_->known.clear();
    State::Known found{.path = "", .unit = UnitOf(*path), .share = state_->tree.ShareOf(*path)};
    found.path = *std::move(path);
    known = state_->known.emplace(origin.cgroupId, std::move(found)).first;
  }
  workload.cgroupPath = known->second.path;
  workload.unit = known->second.unit;
  workload.share = known->second.share;
  return workload;
}

}  // namespace kveil::intercept
