#include "daemon/preflight.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/text.h"
#include "intercept/kernel/access_check.h"
#include "intercept/kernel/pins.h"
#include "intercept/system/agent_cgroup.h"
#include "intercept/system/cgroup_tree.h"
#include "intercept/system/child_process.h"
#include "intercept/system/network_namespace.h"
#include "io/loop.h"
#include "keys/registry/moved_note.h"

namespace kveil::daemon {
namespace {

constexpr ino_t kFirstCgroupNamespace = 0xEFFFFFFB;  // PROC_CGROUP_INIT_INO, linux/proc_ns.h

bool IsInHostCgroupNamespace() {
  struct stat info;
  return ::stat("/proc/self/ns/cgroup", &info) == 0 && info.st_ino == kFirstCgroupNamespace;
}

absl::Status CheckRing() {
  io::Loop::Options small;
  small.receiveBufferCount = 1;
  return io::Loop::Create(small).status();
}

// What making a listener takes.
absl::Status CheckChild(const std::string& cgroupPath) {
  absl::StatusOr<intercept::CgroupTree> tree = intercept::CgroupTree::Open(cgroupPath);
  if (!tree.ok()) return tree.status();
  absl::StatusOr<intercept::AgentCgroup> trial =
      intercept::AgentCgroup::Make(tree->path(), StrCat("kveil-check-", ::getpid()));
  if (!trial.ok()) return trial.status();
  absl::StatusOr<UniqueFd> here = intercept::OpenNamespace(intercept::NamespaceFile(::getpid()));
  if (!here.ok()) return here.status();
  absl::StatusOr<intercept::ChildProcess> child = intercept::ChildProcess::Start(
      trial->fd(), [&here] { return ::setns(here->get(), CLONE_NEWNET) == 0 ? 0 : errno; });
  if (!child.ok()) {
    return absl::Status(child.status().code(),
                        StrCat(ToStd(child.status().message()), " (below ", cgroupPath, ")",
                               IsInHostCgroupNamespace() ? ""
                                                         : "; the agent is in a cgroup namespace of its own: start it "
                                                           "in the host's"));
  }
  const absl::StatusOr<int> error = child->Wait();
  if (!error.ok()) return error.status();
  if (*error == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(StrCat("cannot enter a network namespace: ", std::strerror(*error)));
}

bool IsBpfFileSystem(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

absl::Status CheckPins(const std::string& directory) {
  const std::string parent = std::filesystem::path(directory).parent_path().string();
  // The agent mounts one at the usual place; a check must not.
  if (parent == "/sys/fs/bpf" && !IsBpfFileSystem(parent)) return absl::OkStatus();
  return intercept::PinDirectory::Lock(StrCat(directory, "_check", ::getpid())).status();
}

}  // namespace

void EnterHostCgroupNamespace() {
  if (IsInHostCgroupNamespace()) return;
  const UniqueFd host(::open("/proc/1/ns/cgroup", O_RDONLY | O_CLOEXEC));
  if (host.valid()) (void)::setns(host.get(), CLONE_NEWCGROUP);  // CheckMachine says what follows where this fails
}

absl::Status CheckMachine(const config::AgentConfig& config) {
  absl::Status status = CheckRing();
  if (status.ok()) status = CheckChild(config.intercept.cgroup);
  if (status.ok()) status = CheckPins(config.intercept.pinDirectory);
  return status;
}

absl::Status CheckCapabilities(const config::AgentConfig& config) {
  absl::Status able = intercept::CheckCapabilities("an agent", intercept::kAgentCapabilities);
  if (able.ok() && config.intercept.existing == config::Existing::kReset) {
    able = intercept::CheckCapabilities("intercept.existing \"reset\"", 1u << CAP_NET_ADMIN);
  }
  return able;
}

bool WasNeverUsed(const config::KeysConfig& keys) {
  // Elsewhere there may be keys that this node has sealed with.
  if (keys.registryPostgres.has_value()) return false;
  const auto isMissing = [](const std::string& path) {
    struct stat info;
    return ::lstat(path.c_str(), &info) != 0 && errno == ENOENT;
  };
  // Nor after a move, when the file may be gone.
  if (!keys::RefuseIfMoved(keys.registryPath).ok()) return false;
  return isMissing(keys.registryPath) && (keys.rootKeyFile.empty() || isMissing(keys.rootKeyFile));
}

}  // namespace kveil::daemon
