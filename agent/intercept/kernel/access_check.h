// Whether the agent may do what it needs to do for other processes, found out by doing it: entering the namespace of a
// process that is not its own, naming a cgroup.
#pragma once

#include <linux/capability.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "intercept/system/agent_cgroup.h"
#include "intercept/system/cgroup_tree.h"
#include "intercept/system/child_process.h"
#include "intercept/system/network_namespace.h"

namespace kveil::intercept {

// What the agent needs of root's powers. Not being root does not matter by itself.
inline constexpr uint64_t kAgentCapabilities = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE | 1u << CAP_DAC_READ_SEARCH;

// OK when the calling thread has all of them; otherwise kPermissionDenied, "WHAT needs CAP_..., which this process does
// not have".
absl::Status CheckCapabilities(std::string_view what, uint64_t needed);

// Safe from any thread, but for the destructor; each check takes microseconds.
class AccessCheck {
 public:
  // Starts a process in the agent's cgroup that sleeps and that only CAP_SYS_PTRACE may look into, as it is with the
  // processes of other users. Call it early, while the agent's memory, of which the process has a copy, holds no keys,
  // and on a thread that lives as long as the agent.
  static absl::StatusOr<std::unique_ptr<AccessCheck>> Start(int agentCgroupFd, const std::string& cgroup);

  // Enters that process's network namespace. Not OK without CAP_SYS_PTRACE or CAP_SYS_ADMIN, which is all that it looks
  // at once the process has been killed.
  absl::Status EnterNamespace();
  // Finds the path of the agent's own cgroup by its id, as for a workload. Not OK without CAP_DAC_READ_SEARCH.
  absl::Status NameCgroup();

 private:
  AccessCheck(ChildProcess stranger, std::unique_ptr<SocketMaker> sockets, CgroupTree tree, int agentCgroupFd)
      : stranger_(std::move(stranger)),
        sockets_(std::move(sockets)),
        tree_(std::move(tree)),
        agentCgroupFd_(agentCgroupFd) {}

  ChildProcess stranger_;
  std::unique_ptr<SocketMaker> sockets_;
  CgroupTree tree_;
  int agentCgroupFd_;
};

}  // namespace kveil::intercept
