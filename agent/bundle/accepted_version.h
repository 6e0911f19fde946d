// The highest version of signed policies that was accepted on this node, so that nobody can put older ones in their
// place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kveil::bundle {

// For one thread. Others, of this process or not, may have the same file.
class AcceptedVersion {
 public:
  // `path`: the file that remembers it; empty: nothing does. `least`: what is accepted at least, also where there is no
  // such file yet.
  AcceptedVersion(std::string path, int64_t least) : path_(std::move(path)), least_(least) {}

  // Whether policies may take force, of which somebody has signed that they are this version. `digest`:
  // Manifest::Digest. kFailedPrecondition: a higher version was accepted before, or the same with other files; the
  // version is lower than `least`; or the file is damaged. kUnavailable: it cannot be read. The message says what to
  // do.
  absl::Status Check(int64_t version, const std::string& digest) const;

  // Whether the file can be read, or is not there yet. Errors: those of Check about the file.
  absl::Status CheckFile() const;

  // Remembers them on disk, if they still pass Check. Call it before these policies take force. Whether none were
  // remembered before. Errors: those of Check; kUnavailable: it cannot be written, and they may not take force.
  absl::StatusOr<bool> Remember(int64_t version, const std::string& digest);

 private:
  // What is on disk, if anything is, or why the version may not follow it.
  absl::StatusOr<std::optional<std::string>> LineBefore(int64_t version, const std::string& digest) const;

  std::string path_;
  int64_t least_;
  std::string onDisk_;  // written by this: what another wrote may not have reached the disk
};

}  // namespace kveil::bundle
