// The directory of the BPF file system where links and maps outlive the agent, and the lock that says whose they are.
//
// Maps are pinned as "map_<version>_<name>": one whose structs changed is another map. Links are pinned as
// "link_<program>" without a version, because the next version has to find them to update them in place.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class PinDirectory {
 public:
  // Makes the directory if need be; mounts a BPF file system at its parent when that is the usual /sys/fs/bpf and bears
  // none. kFailedPrecondition: no BPF file system there, or another agent holds the lock. The lock ends with the object
  // or the process.
  static absl::StatusOr<PinDirectory> Lock(const std::string& path);
  PinDirectory(PinDirectory&&) = default;
  ~PinDirectory();

  std::string MapPath(std::string_view name) const;
  std::string LinkPath(std::string_view name) const;

  // An owner of the pinned object's descriptor, invalid when there is none of that name.
  static absl::StatusOr<UniqueFd> Get(const std::string& path);
  static absl::Status Pin(int fd, const std::string& path);

  // Takes away everything that kveil pinned, of whatever version, and the directory; returns the number of links.
  absl::StatusOr<int> RemoveAll();
  // From now on the directory stays when the object ends. Until then one that Lock made is removed again.
  void Keep() { madeHere_ = false; }

 private:
  PinDirectory(std::string path, UniqueFd fd, bool madeHere)
      : path_(std::move(path)), fd_(std::move(fd)), madeHere_(madeHere) {}
  std::string path_;
  UniqueFd fd_;  // flock is held on it
  bool madeHere_ = false;
};

}  // namespace kveil::intercept
