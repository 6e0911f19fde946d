// One line: the version, the digest of its files, and the hash of both, which tells a damaged line.
#include "bundle/accepted_version.h"

#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "evidence/signing_key.h"
#include "evidence/small_file.h"

namespace kveil::bundle {
namespace {

std::string LineOf(int64_t version, const std::string& digest) {
  const std::string start = StrCat(version, " ", digest, " ");
  return StrCat(start, evidence::Sha256Hex(start), "\n");
}

}  // namespace

absl::Status AcceptedVersion::Check(int64_t version, const std::string& digest) const {
  if (version < least_) {
    return absl::FailedPreconditionError(StrCat("the policies are version ", version,
                                                ", and the configuration accepts none below ", least_,
                                                " (policies.minimumVersion)"));
  }
  const absl::StatusOr<std::string> line = evidence::ReadFile(path_);
  if (absl::IsNotFound(line.status())) return absl::OkStatus();
  if (!line.ok()) {
    return absl::FailedPreconditionError(
        StrCat("which version of the policies was accepted before is not known: ", ToStd(line.status().message())));
  }
  const std::vector<std::string> words = absl::StrSplit(*line, ' ');
  int64_t accepted = 0;
  if (words.size() != 3 || !absl::SimpleAtoi(words[0], &accepted) || *line != LineOf(accepted, words[1])) {
    return absl::FailedPreconditionError(
        StrCat(path_,
               ": is damaged, so which version of the policies was accepted before is not known. Restore it; or, "
               "when you are sure that version ",
               version, " is the newest, remove it"));
  }
  if (version < accepted) {
    return absl::FailedPreconditionError(StrCat("the policies are version ", version, ", and version ", accepted,
                                                " was accepted before (", path_,
                                                "). To go back, sign the old files with a higher version"));
  }
  if (version == accepted && digest != words[1]) {
    return absl::FailedPreconditionError(StrCat("version ", version,
                                                " of the policies was accepted before with other files (", path_,
                                                "). Sign what has changed with a higher version"));
  }
  return absl::OkStatus();
}

absl::Status AcceptedVersion::Remember(int64_t version, const std::string& digest) const {
  const std::string line = LineOf(version, digest);
  const absl::StatusOr<std::string> before = evidence::ReadFile(path_);
  if (before.ok() && *before == line) return absl::OkStatus();
  const absl::Status written = evidence::WriteFile(path_, line, 0600);
  if (written.ok()) return written;
  return absl::UnavailableError(
      StrCat("the accepted version of the policies cannot be kept: ", ToStd(written.message())));
}

}  // namespace kveil::bundle
