// Everything that can keep an agent from running on this machine, tried before anything is attached.
#pragma once

#include "absl/status/status.h"
#include "config/config.h"

namespace kveil::daemon {

// Enters the cgroup namespace of process 1 where this process is in another one, as in a container: from inside of that
// no process can be started in a cgroup of the host. Does what it can. Before any thread is made.
void EnterHostCgroupNamespace();

// OK when this machine lets an agent with this configuration run; otherwise what is in the way and what helps. Tries an
// io_uring ring, a process in a cgroup beside the agent's that enters a network namespace, and the pin directory.
// Leaves nothing behind, and may be called while an agent runs.
absl::Status CheckMachine(const config::AgentConfig& config);

// OK with every capability that an agent with this configuration needs; kPermissionDenied names those that are missing.
absl::Status CheckCapabilities(const config::AgentConfig& config);

// Whether no agent has ever had keys here: neither root key nor registry exist. A file that cannot be looked at counts
// as one that is there, and one of the two alone is enough: the other may be on a volume that is not mounted.
bool WasNeverUsed(const config::KeysConfig& keys);

}  // namespace kveil::daemon
