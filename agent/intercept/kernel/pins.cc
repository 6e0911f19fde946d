// The pin directory: mounting, locking, pinning.
#include "intercept/kernel/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/text.h"
#include "intercept/system/host_mount.h"

namespace kveil::intercept {
namespace {

constexpr char kUsualMountPoint[] = "/sys/fs/bpf";

bool IsBpfFileSystem(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

absl::Status EnsureBpfFileSystem(const std::string& path) {
  if (IsBpfFileSystem(path)) return CheckIsMountedByHost(path);
  if (path != kUsualMountPoint) {
    return absl::FailedPreconditionError(
        StrCat("no BPF file system at ", path, ": mount one with 'mount -t bpf bpf ", path, "'"));
  }
  if (::mount("bpf", kUsualMountPoint, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700") == 0) {
    absl::Status hosts = CheckIsMountedByHost(kUsualMountPoint);
    if (!hosts.ok()) ::umount2(kUsualMountPoint, MNT_DETACH);
    return hosts;
  }
  return absl::FailedPreconditionError(StrCat("cannot mount a BPF file system at ", path, ": ", std::strerror(errno)));
}

// Makes the directory if need be, and takes its lock.
absl::StatusOr<UniqueFd> OpenLocked(const std::string& path, bool& made) {
  made = ::mkdir(path.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) {
    return absl::FailedPreconditionError(StrCat("cannot make ", path, ": ", std::strerror(errno)));
  }
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return absl::FailedPreconditionError(StrCat("cannot open ", path, ": ", std::strerror(errno)));
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
    return absl::FailedPreconditionError(StrCat("another kveil agent is running with the pins in ", path));
  }
  return fd;
}

// 0 when there is nothing at `path`.
ino_t InodeOf(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

// Where a pin waits until it can take its name. The file system reserves names with dots.
std::string AgainPath(const std::string& path) { return StrCat(path, "_again"); }

}  // namespace

absl::StatusOr<PinDirectory> PinDirectory::Lock(const std::string& path) {
  const absl::Status mounted = EnsureBpfFileSystem(std::filesystem::path(path).parent_path().string());
  if (!mounted.ok()) return mounted;
  bool made = false;
  absl::StatusOr<UniqueFd> fd = OpenLocked(path, made);
  if (!fd.ok()) return fd.status();
  return PinDirectory(path, *std::move(fd), made);
}

PinDirectory::~PinDirectory() {
  if (fd_.valid() && madeHere_) ::rmdir(path_.c_str());
}

std::string PinDirectory::MapPath(std::string_view name, int version) const {
  return StrCat(path_, "/map_v", version, "_", name);
}

std::vector<std::string> PinDirectory::OtherVersions(std::string_view name, int version) const {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    const std::string file = entry.path().filename().string();
    absl::string_view number = file;
    int other = 0;
    if (absl::ConsumePrefix(&number, "map_v") && absl::ConsumeSuffix(&number, StrCat("_", name)) &&
        absl::SimpleAtoi(number, &other) && other != version) {
      paths.push_back(entry.path().string());
    }
  }
  return paths;
}

std::string PinDirectory::LinkPath(std::string_view name) const { return StrCat(path_, "/link_", name); }

absl::StatusOr<UniqueFd> PinDirectory::Get(const std::string& path) {
  const int fd = ::bpf_obj_get(path.c_str());
  if (fd >= 0 || errno == ENOENT) return UniqueFd(fd);
  return absl::FailedPreconditionError(StrCat("cannot open the pin ", path, ": ", std::strerror(errno)));
}

absl::Status PinDirectory::Pin(int fd, const std::string& path) {
  if (::bpf_obj_pin(fd, path.c_str()) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat("cannot pin ", path, ": ", std::strerror(errno)));
}

absl::Status PinDirectory::Guard(std::string path, int fd) {
  const ino_t inode = InodeOf(path);
  if (inode == 0) return absl::FailedPreconditionError(StrCat("the pin ", path, " is gone"));
  guarded_.push_back({.path = std::move(path), .fd = fd, .inode = inode});
  return absl::OkStatus();
}

absl::Status PinDirectory::Restore() {
  absl::Status status = RestoreDirectory();
  if (!status.ok()) return status;
  for (Guarded& pin : guarded_) status.Update(RestorePin(pin));
  return status;
}

absl::Status PinDirectory::RestoreDirectory() {
  struct stat ours;
  if (::fstat(fd_.get(), &ours) == 0 && InodeOf(path_) == ours.st_ino) return absl::OkStatus();
  const std::string parent = std::filesystem::path(path_).parent_path().string();
  if (!IsBpfFileSystem(parent)) {
    return absl::FailedPreconditionError(
        StrCat("no BPF file system at ", parent,
               " any more: nothing would hold the programs once the agent ends, and "
               "connects would go past it in clear text. Restart the agent with one mounted there"));
  }
  if (absl::Status hosts = CheckIsMountedByHost(parent); !hosts.ok()) return hosts;
  bool made = false;
  absl::StatusOr<UniqueFd> fd = OpenLocked(path_, made);
  if (!fd.ok()) return fd.status();
  fd_ = *std::move(fd);
  log::Warning("pins.restored", {{"path", path_}});
  return absl::OkStatus();
}

absl::Status PinDirectory::RestorePin(Guarded& pin) {
  if (InodeOf(pin.path) == pin.inode) return absl::OkStatus();
  const std::string again = AgainPath(pin.path);
  ::unlink(again.c_str());
  const absl::Status pinned = Pin(pin.fd, again);
  if (!pinned.ok()) return pinned;
  if (::rename(again.c_str(), pin.path.c_str()) < 0) {
    const int error = errno;
    ::unlink(again.c_str());
    return absl::FailedPreconditionError(StrCat("cannot pin ", pin.path, " again: ", std::strerror(error)));
  }
  pin.inode = InodeOf(pin.path);
  log::Warning("pins.restored", {{"path", pin.path}});
  return absl::OkStatus();
}

void PinDirectory::RemoveOldMaps() {
  std::vector<std::filesystem::path> old;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    if (!absl::StartsWith(entry.path().filename().string(), "map_")) continue;
    const std::string path = entry.path().string();
    bool isGuarded = false;
    for (const Guarded& pin : guarded_) isGuarded = isGuarded || pin.path == path;
    if (!isGuarded) old.push_back(entry.path());
  }
  for (const std::filesystem::path& path : old) ::unlink(path.c_str());
}

std::vector<UniqueFd> PinDirectory::Links() const {
  std::vector<UniqueFd> links;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    if (!absl::StartsWith(entry.path().filename().string(), "link_")) continue;
    if (UniqueFd link(::bpf_obj_get(entry.path().c_str())); link.valid()) links.push_back(std::move(link));
  }
  return links;
}

absl::StatusOr<int> PinDirectory::RemoveAll() {
  std::vector<std::filesystem::path> pins;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) pins.push_back(entry.path());
  int links = 0;
  for (const std::filesystem::path& pin : pins) {
    const bool isLink = absl::StartsWith(pin.filename().string(), "link_");
    if (!isLink && !absl::StartsWith(pin.filename().string(), "map_")) continue;
    // Removing the pin alone would detach some milliseconds later, and connects would still be refused until then.
    if (const UniqueFd link(isLink ? ::bpf_obj_get(pin.c_str()) : -1); link.valid()) ::bpf_link_detach(link.get());
    if (::unlink(pin.c_str()) < 0 && errno != ENOENT) {
      return absl::InternalError(StrCat("cannot remove ", pin.string(), ": ", std::strerror(errno)));
    }
    links += isLink;
  }
  ::rmdir(path_.c_str());  // stays when somebody else keeps something there
  return links;
}

}  // namespace kveil::intercept
