// Scans the processes of a cgroup tree.
#include "intercept/workload_scan.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "intercept/agent_cgroup.h"
#include "intercept/network_namespace.h"
#include "intercept/read_file.h"

namespace kveil::intercept {

absl::StatusOr<Witness> Watch(pid_t pid, std::string file) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return absl::NotFoundError(StrCat("cannot watch process ", pid, ": ", std::strerror(errno)));
  return Witness{.pid = pid, .file = std::move(file), .pidFd = std::move(fd)};
}

absl::flat_hash_map<uint64_t, pid_t> FindNamespaces(const CgroupTree& cgroups) {
  absl::flat_hash_map<uint64_t, pid_t> found;
  cgroups.ForEachProcess(AgentCgroup::kName, [&found](pid_t pid) {
    const uint64_t inode = NamespaceInode(NamespaceFile(pid));  // 0 for a zombie, too
    if (inode == 0) return;
    const auto [entry, isNew] = found.emplace(inode, pid);
    if (!isNew) entry->second = std::min(entry->second, pid);
  });
  return found;
}

std::string WorkloadCgroup(pid_t pid) {
  constexpr int kWorkloadLevel = 3;
  const absl::StatusOr<std::string> text = ReadWholeFile(StrCat("/proc/", pid, "/cgroup"));
  if (!text.ok()) return "";
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (!absl::ConsumePrefix(&line, "0::")) continue;
    size_t end = 0;
    while (absl::StartsWith(line.substr(end), "/../")) end += 3;
    for (int level = 0; level < kWorkloadLevel && end != line.npos; ++level) end = line.find('/', end + 1);
    return std::string(line.substr(0, end));
  }
  return "";
}

}  // namespace kveil::intercept
