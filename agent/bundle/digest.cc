#include "bundle/digest.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "base/text.h"
#include "evidence/signing_key.h"

namespace kveil::bundle {

std::string DigestOf(std::vector<std::pair<std::string, std::string>> files) {
  std::sort(files.begin(), files.end());
  std::string lines;
  for (const auto& [name, hash] : files) StrAppend(&lines, hash, "  ", absl::Utf8SafeCEscape(name), "\n");
  return evidence::Sha256Hex(lines);
}

}  // namespace kveil::bundle
