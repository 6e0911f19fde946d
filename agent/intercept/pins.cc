// The pin directory: mounting, locking, pinning.
#include "intercept/pins.h"

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
#include <vector>

#include "absl/strings/match.h"
#include "base/text.h"
#include "intercept.h"

namespace kveil::intercept {
namespace {

constexpr char kUsualMountPoint[] = "/sys/fs/bpf";

bool IsBpfFileSystem(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

absl::Status EnsureBpfFileSystem(const std::string& path) {
  if (IsBpfFileSystem(path)) return absl::OkStatus();
  if (path != kUsualMountPoint) {
    return absl::FailedPreconditionError(
        StrCat("no BPF file system at ", path, ": mount one with 'mount -t bpf bpf ", path, "'"));
  }
  if (::mount("bpf", kUsualMountPoint, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700") == 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(StrCat("cannot mount a BPF file system at ", path, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<PinDirectory> PinDirectory::Lock(const std::string& path) {
  const absl::Status mounted = EnsureBpfFileSystem(std::filesystem::path(path).parent_path().string());
  if (!mounted.ok()) return mounted;
  const bool made = ::mkdir(path.c_str(), 0700) == 0;
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
  return PinDirectory(path, std::move(fd), made);
}

PinDirectory::~PinDirectory() {
  if (fd_.valid() && madeHere_) ::rmdir(path_.c_str());
}

std::string PinDirectory::MapPath(std::string_view name) const {
  return StrCat(path_, "/map_" KVEIL_MAP_VERSION "_", name);
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
