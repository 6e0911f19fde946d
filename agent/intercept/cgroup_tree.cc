// Walks the cgroup file system.
#include "intercept/cgroup_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "intercept.h"
#include "intercept/read_file.h"

namespace kveil::intercept {
namespace {

constexpr uint64_t kHostRootId = 1;
constexpr int kDeepestLevel = 64;  // the kernel's own limit is far above any real tree; a bound for the recursion

bool IsCgroup2(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

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

bool IsBelow(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

// A path in the mount as one from its root.
std::string WithoutMount(std::string_view path, const std::string& mountPoint) {
  path.remove_prefix(mountPoint.size());
  return path.empty() ? "/" : std::string(path);
}

int WorkloadLevel(const std::string& path, const std::string& mountPoint) {
  struct stat root;
  if (::stat(mountPoint.c_str(), &root) < 0 || root.st_ino != kHostRootId) return KVEIL_WORKLOAD_LEVEL;
  const auto depth = std::count(path.begin() + static_cast<ptrdiff_t>(mountPoint.size()), path.end(), '/');
  return depth < KVEIL_WORKLOAD_LEVEL ? KVEIL_WORKLOAD_LEVEL - static_cast<int>(depth) : KVEIL_WORKLOAD_LEVEL;
}

// Calls `visit` with every directory of the tree, the given one first; one named `except` directly below it is left
// out.
void Walk(const std::string& directory, const std::string& except, int level,
          const std::function<void(const std::string&)>& visit) {
  visit(directory);
  if (level == kDeepestLevel) return;
  std::unique_ptr<DIR, CloseDirectory> handle(::opendir(directory.c_str()));
  if (!handle) return;
  while (const dirent* entry = ::readdir(handle.get())) {
    const std::string_view name = entry->d_name;
    if (entry->d_type != DT_DIR || name == "." || name == ".." || (level == 0 && name == except)) continue;
    Walk(StrCat(directory, "/", name), except, level + 1, visit);
  }
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

void CgroupTree::ForEachProcess(const std::string& except,
                                const std::function<void(pid_t, const std::string&)>& visit) const {
  Walk(path_, except, 0, [&](const std::string& directory) {
    const absl::StatusOr<std::string> text = ReadWholeFile(directory + "/cgroup.procs");
    if (!text.ok()) return;  // gone meanwhile, or a threaded cgroup: its domain lists the processes
    const std::string cgroupPath = WithoutMount(directory, mountPoint_);
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
      int pid = 0;  // stays 0 for a process of a pid namespace that we do not see
      if (absl::SimpleAtoi(line, &pid) && pid > 0) visit(pid, cgroupPath);
    }
  });
}

size_t CgroupTree::CountHiddenProcesses() const {
  size_t hidden = 0;
  Walk(path_, "", 0, [&hidden](const std::string& directory) {
    const absl::StatusOr<std::string> text = ReadWholeFile(directory + "/cgroup.procs");
    if (!text.ok()) return;
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) hidden += line == "0";
  });
  return hidden;
}

absl::flat_hash_set<uint64_t> CgroupTree::IdsBelow() const {
  absl::flat_hash_set<uint64_t> ids;
  Walk(path_, "", 0, [&ids](const std::string& directory) {
    struct stat info;
    if (::stat(directory.c_str(), &info) == 0) ids.insert(info.st_ino);
  });
  return ids;
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
  if (!fd.valid()) return absl::NotFoundError(StrCat("cgroup ", cgroupId, ": ", std::strerror(errno)));
  char target[PATH_MAX];
  const ssize_t length = ::readlink(StrCat("/proc/self/fd/", fd.get()).c_str(), target, sizeof(target));
  if (length < 0) return absl::NotFoundError(StrCat("cgroup ", cgroupId, ": ", std::strerror(errno)));
  absl::string_view path(target, static_cast<size_t>(length));
  struct stat info;
  if (absl::ConsumeSuffix(&path, " (deleted)") && ::fstat(fd.get(), &info) == 0 && info.st_nlink > 0) {
    path = {target, static_cast<size_t>(length)};  // that is how it is named
  }
  if (!IsBelow(ToStd(path), mountPoint_)) {
    return absl::NotFoundError(StrCat("cgroup ", cgroupId, " is outside of ", mountPoint_));
  }
  return WithoutMount(ToStd(path), mountPoint_);
}

std::string CgroupTree::ShareOf(std::string_view cgroupPath) const {
  const auto isDelegated = [this](const std::string& path) {
    struct stat info;  // what is gone has nothing below it
    return ::stat((mountPoint_ + path).c_str(), &info) < 0 || info.st_uid != 0;
  };
  return intercept::ShareOf(cgroupPath, WithoutMount(path_, mountPoint_), workloadLevel_, isDelegated);
}

std::string CgroupTree::ShareOf(uint64_t cgroupId, uint64_t above) const {
  for (const uint64_t id : {cgroupId, above}) {
    if (const absl::StatusOr<std::string> path = PathOf(id); path.ok()) return ShareOf(*path);
  }
  return "";
}

std::string ShareOf(std::string_view cgroupPath, std::string_view intercepted, int level,
                    const std::function<bool(const std::string& path)>& isDelegated) {
  size_t end = 0;
  if (intercepted != "/" && IsBelow(cgroupPath, intercepted)) end = intercepted.size();
  for (int i = 0; i < level && end < cgroupPath.size(); ++i) {
    if (end > 0 && isDelegated(std::string(cgroupPath.substr(0, end)))) break;
    end = std::min(cgroupPath.find('/', end + 1), cgroupPath.size());
  }
  return std::string(cgroupPath.substr(0, end));
}

}  // namespace kveil::intercept
