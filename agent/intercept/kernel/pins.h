// The directory of the BPF file system where links and maps outlive the agent, and the lock that says whose they are.
//
// Maps are pinned as "map_v<version>_<name>": one whose structs changed is another map, and each map has a version of
// its own. Links are pinned as "link_<program>" without a version, because the next version of the agent has to find
// them to update them in place.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class PinDirectory {
 public:
  // Makes the directory if need be; mounts a BPF file system at its parent when that is the usual /sys/fs/bpf and bears
  // none. kFailedPrecondition: no BPF file system there, or one that only this process has and not the host, or another
  // agent holds the lock. The lock ends with the object or the process.
  static absl::StatusOr<PinDirectory> Lock(const std::string& path);
  PinDirectory(PinDirectory&&) = default;
  ~PinDirectory();

  std::string MapPath(std::string_view name, int version) const;
  std::string LinkPath(std::string_view name) const;
  // The pins of a map with that name in other versions.
  std::vector<std::string> OtherVersions(std::string_view name, int version) const;

  // An owner of the pinned object's descriptor, invalid when there is none of that name.
  static absl::StatusOr<UniqueFd> Get(const std::string& path);
  static absl::Status Pin(int fd, const std::string& path);

  // From now on Restore looks after the pin at `path` in this directory, which is that of `fd`. The descriptor stays
  // its owner's and must be open as long as Restore is called.
  absl::Status Guard(std::string path, int fd);
  // Pins again what was unlinked or replaced since, and makes the directory again. An error in plain words: a pin is
  // missing, and nothing would hold its program or map once the agent ends. One thread at a time.
  absl::Status Restore();

  // The links that are pinned here now.
  std::vector<UniqueFd> Links() const;

  // Takes away everything that kveil pinned, of whatever version, and the directory; returns the number of links.
  absl::StatusOr<int> RemoveAll();
  // Takes away the pinned maps that are not guarded: those of other versions.
  void RemoveOldMaps();
  // From now on the directory stays when the object ends. Until then one that Lock made is removed again.
  void Keep() { madeHere_ = false; }

 private:
  struct Guarded {
    std::string path;
    int fd;
    ino_t inode;  // of the pin: another object's would have another one
  };

  PinDirectory(std::string path, UniqueFd fd, bool madeHere)
      : path_(std::move(path)), fd_(std::move(fd)), madeHere_(madeHere) {}
  absl::Status RestoreDirectory();
  static absl::Status RestorePin(Guarded& pin);

  std::string path_;
  UniqueFd fd_;  // flock is held on it
  bool madeHere_ = false;
  std::vector<Guarded> guarded_;
};

}  // namespace kveil::intercept
