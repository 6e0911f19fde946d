#include "names/workload_files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::names {
namespace {

// Larger files exist, but nobody looks brokers up in them.
constexpr size_t kMostBytes = 4 << 20;

absl::Status IsNoFile(const char* path, std::string_view why) {
  return absl::FailedPreconditionError(StrCat("the workload's /", path, " ", why));
}

// In these a regular file may be anything, and show what only the agent may read.
bool IsKernelsOwn(int fd) {
  struct statfs info;
  if (::fstatfs(fd, &info) < 0) return true;
  switch (static_cast<uint32_t>(info.f_type)) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case BPF_FS_MAGIC:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<std::string> ReadAll(int fd, const char* path) {
  std::string text;
  std::array<char, 16384> part;
  for (;;) {
    const ssize_t count = ::read(fd, part.data(), part.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return IsNoFile(path, StrCat("cannot be read: ", std::strerror(errno)));
    if (count == 0) return text;
    text.append(part.data(), static_cast<size_t>(count));
    if (text.size() > kMostBytes) return IsNoFile(path, StrCat("is longer than ", kMostBytes, " bytes"));
  }
}

absl::StatusOr<std::string> ReadIn(int root, const char* path) {
  // First without opening it: only then it is known what it is, and opening some things has effects.
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd there(static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof(how))));
  if (!there.valid() && (errno == ENOENT || errno == ENOTDIR)) return std::string();
  if (!there.valid()) return IsNoFile(path, StrCat("cannot be looked at: ", std::strerror(errno)));
  struct stat info;
  if (::fstat(there.get(), &info) < 0 || !S_ISREG(info.st_mode)) return IsNoFile(path, "is no regular file");
  if (IsKernelsOwn(there.get())) return IsNoFile(path, "lies in a file system of the kernel");
  const UniqueFd open(
      ::open(StrCat("/proc/self/fd/", there.get()).c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!open.valid()) return IsNoFile(path, StrCat("cannot be opened: ", std::strerror(errno)));
  return ReadAll(open.get(), path);
}

std::string LinkIn(int directory, const char* name) {
  std::array<char, PATH_MAX> text;
  const ssize_t size = ::readlinkat(directory, name, text.data(), text.size());
  return size < 0 ? std::string() : std::string(text.data(), static_cast<size_t>(size));
}

// Refers to this process for good: once it has ended, nothing below can be opened, even if its number is reused.
UniqueFd OpenProcess(pid_t process) {
  return UniqueFd(::open(StrCat("/proc/", process).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

absl::StatusOr<WorkloadFiles> ReadWorkloadFiles(pid_t process, uint64_t netnsInode) {
  const UniqueFd directory = OpenProcess(process);
  if (!directory.valid() || LinkIn(directory.get(), "ns/net") != StrCat("net:[", netnsInode, "]")) {
    return absl::NotFoundError(StrCat("process ", process, " is not in that network namespace any more"));
  }
  const UniqueFd root(::openat(directory.get(), "root", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    const std::string message = StrCat("cannot open the root of process ", process, ": ", std::strerror(errno));
    return errno == ENOENT || errno == ESRCH ? absl::NotFoundError(message) : absl::PermissionDeniedError(message);
  }
  return ReadFilesIn(root.get());
}

absl::StatusOr<WorkloadFiles> ReadFilesIn(int root) {
  WorkloadFiles files;
  for (const auto& [path, text] :
       {std::pair("etc/hosts", &files.hosts), std::pair("etc/resolv.conf", &files.resolverConfig),
        std::pair("etc/nsswitch.conf", &files.nsswitch)}) {
    absl::StatusOr<std::string> read = ReadIn(root, path);
    if (!read.ok()) return read.status();
    *text = *std::move(read);
  }
  return files;
}

std::string ViewOf(pid_t process) {
  const UniqueFd directory = OpenProcess(process);
  if (!directory.valid()) return {};
  return StrCat(LinkIn(directory.get(), "ns/net"), " ", LinkIn(directory.get(), "ns/mnt"), " ",
                LinkIn(directory.get(), "root"));
}

}  // namespace kveil::names
