// Which bytes the policies were read from.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "bundle/manifest.h"

namespace kveil::policy {

// The files of policies, and those of users that they name.
class PolicyFiles {
 public:
  // With `manifest`, which outlives this, only its files with its bytes are policies.
  explicit PolicyFiles(const bundle::Manifest* manifest = nullptr) : manifest_(manifest) {}

  // A file that was read, before it is parsed. kUnavailable: it was read before, and had other bytes.
  // kFailedPrecondition: it is not as the manifest has it.
  absl::Status Add(const std::string& path, std::string_view bytes);

  // Whether all files of the manifest were added. kFailedPrecondition: one was not, and which.
  absl::Status CheckAllRead() const;

  // SHA-256 in lower-case hexadecimal digits, by the name within the folder. Of two files with one name, either.
  std::map<std::string, std::string> ByName() const;

  // The same on all nodes that read the same files: bundle::DigestOf.
  std::string Digest() const;

 private:
  const bundle::Manifest* const manifest_;
  std::map<std::string, std::string> hashes_;  // SHA-256 in hexadecimal digits, by path
};

}  // namespace kveil::policy
