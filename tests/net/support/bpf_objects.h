// BPF objects of other people: programs in the way, maps that are not ours.
#pragma once

#include <bpf/bpf.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "support/node.h"

namespace kveil::nettest {

// A program for connect hooks that lets everything pass.
UniqueFd LoadPassingProgram(bpf_attach_type type, const std::string& name);

// A sockops program that clears the flags of each connecting socket.
UniqueFd LoadFlagClearingProgram(const std::string& name);

// Attaches without a link. With flags 0 no other program is allowed beside it, as tools of the time before links did.
void AttachLegacy(const UniqueFd& program, const Cgroup& cgroup, bpf_attach_type type, uint32_t flags = 0);

// Every hook that kveil attaches to.
extern const std::vector<bpf_attach_type> kHooks;

// Ids of the programs attached right to this cgroup at a hook.
std::vector<uint32_t> AttachedTo(const Cgroup& cgroup, bpf_attach_type type);
// How many there are at all of kveil's hooks together.
size_t CountAttached(const Cgroup& cgroup);

// Names in a directory, sorted; nothing when there is no such directory.
std::vector<std::string> NamesIn(const std::string& directory);

}  // namespace kveil::nettest
