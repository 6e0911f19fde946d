// Reads ids, paths and owners from the cgroup file system.
#include "intercept/system/cgroup_tree.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/strip.h"
#include "base/text.h"
#include "identity/cgroup_path.h"
#include "intercept.h"

namespace kveil::intercept {
namespace {

constexpr uint64_t kHostRootId = 1;

bool IsCgroup2(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC;
}

// The mount point that holds `path`.
std::string MountPointOf(const std::string& path) {
  std::string mountPoint = path;
  while (mountPoint.rfind('/') > 0 && mountPoint.rfind('/') != std::string::npos) {
    const std::string parent = mountPoint.substr(0, mountPoint.rfind('/'));
    if (!IsCgroup2(parent)) break;
    mountPoint = parent;
  }
  return mountPoint;
}

int WorkloadLevel(const std::string& path, const std::string& mountPoint) {
  struct stat root;
  if (::stat(mountPoint.c_str(), &root) < 0 || root.st_ino != kHostRootId) return KVEIL_WORKLOAD_LEVEL;
  const auto depth = std::count(path.begin() + static_cast<ptrdiff_t>(mountPoint.size()), path.end(), '/');
  return depth < KVEIL_WORKLOAD_LEVEL ? KVEIL_WORKLOAD_LEVEL - static_cast<int>(depth) : KVEIL_WORKLOAD_LEVEL;
}

}  // namespace

absl::StatusOr<CgroupTree> CgroupTree::Open(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) {
    return absl::InvalidArgumentError(StrCat("cgroup ", path, ": ", std::strerror(errno)));
  }
  if (!IsCgroup2(resolved)) {
    return absl::InvalidArgumentError(StrCat("cgroup ", path, " is not in a cgroup v2 file system"));
  }
  CgroupTree tree;
  tree.path_ = resolved;
  tree.mountPoint_ = MountPointOf(tree.path_);
  tree.fd_ = UniqueFd(::open(resolved, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info;
  if (!tree.fd_.valid() || ::fstat(tree.fd_.get(), &info) < 0) {
    return absl::InvalidArgumentError(StrCat("cgroup ", path, ": ", std::strerror(errno)));
  }
  tree.id_ = info.st_ino;
  tree.workloadLevel_ = WorkloadLevel(tree.path_, tree.mountPoint_);
  return tree;
}

std::vector<std::string> CgroupTree::PathsUpToRoot() const {
  std::vector<std::string> paths;
  for (std::string path = path_; path.size() >= mountPoint_.size(); path.resize(path.rfind('/'))) paths.push_back(path);
  return paths;
}

std::string CgroupTree::NamespaceWarning() const {
  if (id_ == kHostRootId || path_ != mountPoint_) return "";
  return StrCat(path_, " is the root of a cgroup namespace or of a bind mount, not of the host (its id is ", id_,
                "): workloads outside of it are not intercepted");
}

absl::StatusOr<std::string> CgroupTree::PathOf(uint64_t cgroupId) const {
  // The cgroup file system's handles hold the id and nothing else (FILEID_KERNFS, include/linux/exportfs.h).
  constexpr int kFileIdKernfs = 0xfe;
  alignas(file_handle) char buffer[sizeof(file_handle) + sizeof(cgroupId)] = {};
  auto* handle = reinterpret_cast<file_handle*>(buffer);
  handle->handle_bytes = sizeof(cgroupId);
  handle->handle_type = kFileIdKernfs;
  std::memcpy(buffer + sizeof(file_handle), &cgroupId, sizeof(cgroupId));
  const UniqueFd fd(::open_by_handle_at(fd_.get(), handle, O_PATH | O_CLOEXEC));
  const auto failed = [cgroupId](int error) {
    const std::string message = StrCat("cgroup ", cgroupId, ": ", std::strerror(error));
    return error == ESTALE || error == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
  };
  if (!fd.valid()) return failed(errno);
  char target[PATH_MAX];
  const ssize_t length = ::readlink(StrCat("/proc/self/fd/", fd.get()).c_str(), target, sizeof(target));
  if (length < 0) return failed(errno);
  absl::string_view path(target, static_cast<size_t>(length));
  struct stat info;
  if (absl::ConsumeSuffix(&path, " (deleted)") && ::fstat(fd.get(), &info) == 0 && info.st_nlink > 0) {
    path = {target, static_cast<size_t>(length)};  // that is how it is named
  }
  if (!identity::IsBelow(ToStd(path), mountPoint_)) {
    return absl::NotFoundError(StrCat("cgroup ", cgroupId, " is outside of ", mountPoint_));
  }
  return PathFromRoot(ToStd(path));
}

absl::StatusOr<bool> CgroupTree::Contains(uint64_t cgroupId) const {
  if (cgroupId == id_) return true;
  const absl::StatusOr<std::string> path = PathOf(cgroupId);
  if (path.ok()) return identity::IsBelow(mountPoint_ + *path, path_);
  if (absl::IsNotFound(path.status())) return false;
  return path.status();
}

std::string CgroupTree::PathFromRoot(std::string_view directory) const {
  directory.remove_prefix(mountPoint_.size());
  return directory.empty() ? "/" : std::string(directory);
}

std::string CgroupTree::ShareOf(std::string_view cgroupPath) const {
  const auto isDelegated = [this](const std::string& path) {
    struct stat info;  // what is gone has nothing below it
    return ::stat((mountPoint_ + path).c_str(), &info) < 0 || info.st_uid != 0;
  };
  return identity::ShareOf(cgroupPath, PathFromRoot(path_), workloadLevel_, isDelegated);
}

std::string CgroupTree::ShareOf(uint64_t cgroupId, uint64_t above) const {
  for (const uint64_t id : {cgroupId, above}) {
    if (const absl::StatusOr<std::string> path = PathOf(id); path.ok()) return ShareOf(*path);
  }
  return "";
}

}  // namespace kveil::intercept
