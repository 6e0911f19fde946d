// Checks, by trying, whether the agent may do to other processes what it needs to: enter their namespaces, find the
// paths of their cgroups.
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

// The capabilities that the agent needs. It need not be root.
inline constexpr uint64_t kAgentCapabilities = 1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE | 1u << CAP_DAC_READ_SEARCH;

// OK if the calling thread has all of `needed`. kPermissionDenied: "WHAT needs CAP_..., which this process does not
// have".
absl::Status CheckCapabilities(std::string_view what, uint64_t needed);

// Any thread, except for the destructor. Each check takes microseconds.
class AccessCheck {
 public:
  // Starts a sleeping process in the agent's cgroup. Looking into it needs CAP_SYS_PTRACE, as with processes of other
  // users. The process has a copy of the agent's memory: call this early, before that holds keys, and on a thread that
  // lives as long as the agent.
  static absl::StatusOr<std::unique_ptr<AccessCheck>> Start(int agentCgroupFd, const std::string& cgroup);

  // Enters that process's network namespace. Not OK without CAP_SYS_PTRACE or CAP_SYS_ADMIN; once the process has been
  // killed, only checks for the capabilities.
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
