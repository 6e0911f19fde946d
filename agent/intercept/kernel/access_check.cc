#include "intercept/kernel/access_check.h"

#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "base/text.h"

namespace kveil::intercept {
namespace {

struct Capability {
  int number;
  const char* name;
};
constexpr Capability kNamed[] = {{CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                                 {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
                                 {CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"},
                                 {CAP_NET_ADMIN, "CAP_NET_ADMIN"}};

// Holds only a copy of the agent's memory, and lets nobody look into that. PR_SET_PDEATHSIG is set already. It shares
// the agent's descriptor table until close_range gives it its own, which is empty; if that fails, nothing is closed.
int SleepAsStranger() {
  if (::syscall(SYS_close_range, 0u, UINT_MAX, CLOSE_RANGE_UNSHARE) < 0) return 1;
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  for (;;) ::pause();
}

}  // namespace

absl::Status CheckCapabilities(std::string_view what, uint64_t needed) {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, data) < 0) return absl::InternalError(StrCat("capget: ", std::strerror(errno)));
  std::string missing;
  const uint64_t has = data[0].effective | static_cast<uint64_t>(data[1].effective) << 32;
  for (const Capability& capability : kNamed) {
    if (((needed & ~has) >> capability.number & 1) == 0) continue;
    StrAppend(&missing, missing.empty() ? "" : ", ", capability.name);
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError(StrCat(what, " needs ", missing, ", which this process does not have"));
}

absl::StatusOr<std::unique_ptr<AccessCheck>> AccessCheck::Start(int agentCgroupFd, const std::string& cgroup) {
  absl::StatusOr<CgroupTree> tree = CgroupTree::Open(cgroup);
  if (!tree.ok()) return tree.status();
  absl::StatusOr<ChildProcess> stranger = ChildProcess::Start(agentCgroupFd, [] { return SleepAsStranger(); });
  if (!stranger.ok()) return stranger.status();
  absl::StatusOr<std::unique_ptr<SocketMaker>> sockets = SocketMaker::Start();
  if (!sockets.ok()) return sockets.status();
  return std::unique_ptr<AccessCheck>(
      new AccessCheck(*std::move(stranger), *std::move(sockets), *std::move(tree), agentCgroupFd));
}

absl::Status AccessCheck::EnterNamespace() {
  pollfd ended{stranger_.pidFd(), POLLIN, 0};
  if (::poll(&ended, 1, 0) > 0) {
    // Somebody has killed it. Another one would have a copy of the keys that are in memory by now.
    return CheckCapabilities("entering the network namespaces of workloads", kAgentCapabilities);
  }
  const absl::StatusOr<UniqueFd> opened = OpenNamespace(NamespaceFile(stranger_.pid()));
  if (!opened.ok()) {
    return absl::PermissionDeniedError(StrCat("cannot open the network namespace of another process (",
                                              ToStd(opened.status().message()),
                                              "): workloads that run as other users are not found; is CAP_SYS_PTRACE "
                                              "missing?"));
  }
  const absl::StatusOr<UniqueFd> socket = sockets_->Make(opened->get(), AF_UNIX, SOCK_DGRAM, 0);
  if (socket.ok()) return absl::OkStatus();
  return absl::PermissionDeniedError(StrCat("cannot enter the network namespace of another process (",
                                            ToStd(socket.status().message()), "); is CAP_SYS_ADMIN missing?"));
}

absl::Status AccessCheck::NameCgroup() {
  struct stat info;
  if (::fstat(agentCgroupFd_, &info) < 0) return absl::InternalError(StrCat("fstat: ", std::strerror(errno)));
  const absl::StatusOr<std::string> path = tree_.PathOf(info.st_ino);
  if (path.ok()) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat("cannot tell which workload a connection belongs to, so that no rule for a unit "
             "or cgroup matches (",
             ToStd(path.status().message()), "); is CAP_DAC_READ_SEARCH missing?"));
}

}  // namespace kveil::intercept
