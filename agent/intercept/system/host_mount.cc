// Compares device numbers: every mount of a BPF file system makes a new one, with its own number.
#include "intercept/system/host_mount.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/text.h"
#include "intercept/system/read_file.h"

namespace kveil::intercept {
namespace {

constexpr ino_t kFirstPidNamespace = 0xEFFFFFFC;  // PROC_PID_INIT_INO, linux/proc_ns.h

ino_t InodeOf(const char* path) {
  struct stat info;
  return ::stat(path, &info) == 0 ? info.st_ino : 0;
}

}  // namespace

bool HasDevice(std::string_view mountinfo, unsigned major, unsigned minor) {
  const std::string device = StrCat(major, ":", minor);
  for (const absl::string_view line : absl::StrSplit(ToAbsl(mountinfo), '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (fields.size() > 2 && fields[2] == device) return true;
  }
  return false;
}

absl::Status CheckIsMountedByHost(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) < 0) {
    return absl::FailedPreconditionError(StrCat("cannot look at ", path, ": ", std::strerror(errno)));
  }
  const absl::StatusOr<std::string> mounts = ReadWholeFile("/proc/1/mountinfo");
  if (!mounts.ok()) {
    return absl::PermissionDeniedError(
        StrCat("cannot tell whether the BPF file system at ", path,
               " is the host's (CAP_SYS_PTRACE is needed): ", ToStd(mounts.status().message())));
  }
  if (HasDevice(*mounts, major(info.st_dev), minor(info.st_dev))) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("the BPF file system at ", path,
             " is not the host's: it would end with the agent, and connects would go past it in clear text. Mount one "
             "on the host ('mount -t bpf bpf /sys/fs/bpf') and, for an agent in a container, give it that directory"));
}

bool IsInFirstPidNamespace() { return InodeOf("/proc/self/ns/pid") == kFirstPidNamespace; }

std::string ContainerWarning() {
  if (IsInFirstPidNamespace()) return "";
  if (InodeOf("/proc/self/ns/mnt") != InodeOf("/proc/1/ns/mnt")) return "";
  return "the agent does not see the host's processes (hostPID), so it cannot tell whether its BPF file system is the "
         "host's: if it is not, connects go past the agent in clear text once this container has ended";
}

}  // namespace kveil::intercept
