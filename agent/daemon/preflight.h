// Everything that can keep an agent from running on this machine, tried before anything is attached.
#pragma once

#include "absl/status/status.h"
#include "config/config.h"

namespace kveil::daemon {

// Enters the cgroup namespace of process 1 if this process is in another one, as in a container: from there, no process
// can be started in a cgroup of the host. Does what it can. Call it before any thread is made.
void EnterHostCgroupNamespace();

// OK if an agent with this configuration can run on this machine. Otherwise the error says what is in the way and what
// helps. Tries an io_uring ring, a process in a cgroup beside the agent's that enters a network namespace, and the pin
// directory. Leaves nothing behind, and may be called while an agent runs.
absl::Status CheckMachine(const config::AgentConfig& config);

// OK if the process has every capability that this configuration needs. kPermissionDenied names the missing ones.
absl::Status CheckCapabilities(const config::AgentConfig& config);

// Whether no agent has ever had keys here, so that neither root key nor registry exists. A file that cannot be looked
// at counts as existing. One of the two is enough, as the other may be on a volume that is not mounted. A root key that
// is not on this node says nothing.
bool WasNeverUsed(const config::KeysConfig& keys);

}  // namespace kveil::daemon
