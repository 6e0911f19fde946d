// The highest version of signed policies that was accepted on this node, so that nobody can put older ones in their
// place.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace kveil::bundle {

class AcceptedVersion {
 public:
  // `path`: the file that remembers it. `least`: what is accepted at least, also where there is no such file yet.
  AcceptedVersion(std::string path, int64_t least) : path_(std::move(path)), least_(least) {}

  // Whether policies may take force, of which somebody has signed that they are this version. `digest`:
  // Manifest::Digest. kFailedPrecondition: a higher version was accepted before, or the same with other files; the
  // version is lower than `least`; or the file is damaged or cannot be read. The message says what to do.
  absl::Status Check(int64_t version, const std::string& digest) const;

  // Remembers what has passed Check, on disk. Call it before these policies take force. kUnavailable: it cannot be
  // written, and they may not.
  absl::Status Remember(int64_t version, const std::string& digest) const;

 private:
  std::string path_;
  int64_t least_;
};

}  // namespace kveil::bundle
