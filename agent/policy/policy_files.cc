#include "policy/policy_files.h"

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "base/text.h"
#include "evidence/signing_key.h"

namespace kveil::policy {

absl::Status PolicyFiles::Add(const std::string& path, std::string_view bytes) {
  const std::string hash = evidence::Sha256Hex(bytes);
  const auto [first, isFresh] = hashes_.emplace(path, hash);
  if (isFresh || first->second == hash) return absl::OkStatus();
  return absl::UnavailableError(StrCat(path, ": it changed while the policies were read"));
}

std::string PolicyFiles::Digest() const {
  std::vector<std::pair<std::string_view, std::string_view>> files;
  for (const auto& [path, hash] : hashes_) {
    files.emplace_back(std::string_view(path).substr(path.rfind('/') + 1), hash);
  }
  std::sort(files.begin(), files.end());
  std::string lines;
  for (const auto& [name, hash] : files) {
    StrAppend(&lines, hash, "  ", absl::Utf8SafeCEscape({name.data(), name.size()}), "\n");
  }
  return evidence::Sha256Hex(lines);
}

}  // namespace kveil::policy
