// The directory of the BPF file system where links and maps outlive the agent, and the lock that says which agent owns
// them.
//
// Maps are pinned as "map_v<version>_<name>". Each map has its own version: with changed structs it is another map.
// Links are pinned as "link_<program>", without a version, so that the next version of the agent finds them and updates
// them in place.
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
  // Makes the directory if need be; mounts a BPF file system at its parent if that is the usual /sys/fs/bpf and has
  // none. kFailedPrecondition: there is no BPF file system, or only this process has it and not the host, or another
  // agent holds the lock. The lock ends with the object or the process.
  static absl::StatusOr<PinDirectory> Lock(const std::string& path);
  PinDirectory(PinDirectory&&) = default;
  ~PinDirectory();

  std::string MapPath(std::string_view name, int version) const;
  std::string LinkPath(std::string_view name) const;
  // The pins of that map in other versions.
  std::vector<std::string> OtherVersions(std::string_view name, int version) const;

  // Opens the object pinned at `path`; invalid if nothing is pinned there.
  static absl::StatusOr<UniqueFd> Get(const std::string& path);
  static absl::Status Pin(int fd, const std::string& path);

  // Makes Restore look after the pin of `fd` at `path` in this directory. Does not own `fd`, which must be open as long
  // as Restore is called. kFailedPrecondition: the pin is gone.
  absl::Status Guard(std::string path, int fd);
  // Pins again what was unlinked or replaced since, and makes the directory again. An error: a pin is missing, and
  // nothing would hold its program or map once the agent ends. One thread at a time.
  absl::Status Restore();

  // The links that are pinned here now.
  std::vector<UniqueFd> Links() const;

  // Removes everything that kveil pinned, of any version, and the directory. Returns the number of links.
  absl::StatusOr<int> RemoveAll();
  // Removes pinned maps that are not guarded: those of other versions.
  void RemoveOldMaps();
  // Keeps the directory when the object ends. Without this, a directory that Lock made is removed again.
  void Keep() { madeHere_ = false; }

 private:
  struct Guarded {
    std::string path;
    int fd;
    ino_t inode;  // of the pin; another object's pin has another one
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
