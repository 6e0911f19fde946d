// Which bytes the policies were read from.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace kveil::policy {

// The files of policies, and those of users that they name.
class PolicyFiles {
 public:
  // A file that was read, before it is parsed. kUnavailable: it was read before, and had other bytes.
  absl::Status Add(const std::string& path, std::string_view bytes);

  // The same on all nodes that read the same files: the SHA-256 of what `sha256sum` prints about them, in the order of
  // their names, in lower-case hexadecimal digits. The names are those within their folder; of a control character, a
  // quote or a backslash in one, it has the escape in C.
  std::string Digest() const;

 private:
  std::map<std::string, std::string> hashes_;  // SHA-256 in hexadecimal digits, by path
};

}  // namespace kveil::policy
