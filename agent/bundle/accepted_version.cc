// One line: the version, the digest of its files, and the hash of both, which tells a damaged line.
#include "bundle/accepted_version.h"

#include <chrono>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "evidence/folder_lock.h"
#include "evidence/signing_key.h"
#include "evidence/small_file.h"

namespace kveil::bundle {
namespace {

// For another agent that writes the file at this moment. There should be none.
constexpr std::chrono::milliseconds kPatience{1000};

std::string LineOf(int64_t version, const std::string& digest) {
  const std::string start = StrCat(version, " ", digest, " ");
  return StrCat(start, evidence::Sha256Hex(start), "\n");
}

struct Line {
  int64_t version = 0;
  std::string digest;
  std::string text;  // all of it
};

// nullopt: there is none. `newest`: what whoever removes a damaged one has to be sure of.
absl::StatusOr<std::optional<Line>> ReadLine(const std::string& path, const std::string& newest) {
  absl::StatusOr<std::string> text = evidence::ReadFile(path);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  if (!text.ok()) {
    return absl::UnavailableError(
        StrCat("which version of the policies was accepted before is not known: ", ToStd(text.status().message())));
  }
  const std::vector<std::string> words = absl::StrSplit(*text, ' ');
  Line line;
  if (words.size() == 3 && absl::SimpleAtoi(words[0], &line.version) && *text == LineOf(line.version, words[1])) {
    line.digest = words[1];
    line.text = *std::move(text);
    return line;
  }
  return absl::FailedPreconditionError(
      StrCat(path,
             ": is damaged, so which version of the policies was accepted before is not known. Restore it; or, "
             "when you are sure that ",
             newest, " is the newest, remove it"));
}

absl::Status NotKept(const absl::Status& why) {
  return absl::UnavailableError(StrCat("the accepted version of the policies cannot be kept: ", ToStd(why.message())));
}

}  // namespace

absl::StatusOr<std::optional<std::string>> AcceptedVersion::LineBefore(int64_t version,
                                                                       const std::string& digest) const {
  if (version < least_) {
    return absl::FailedPreconditionError(StrCat("the policies are version ", version,
                                                ", and the configuration accepts none below ", least_,
                                                " (policies.minimumVersion)"));
  }
  if (path_.empty()) return std::nullopt;
  ASSIGN_OR_RETURN(std::optional<Line> before, ReadLine(path_, StrCat("version ", version)));
  if (!before.has_value()) return std::nullopt;
  if (version < before->version) {
    return absl::FailedPreconditionError(StrCat("the policies are version ", version, ", and version ", before->version,
                                                " was accepted before (", path_,
                                                "). To go back, sign the old files with a higher version"));
  }
  if (version == before->version && digest != before->digest) {
    return absl::FailedPreconditionError(StrCat("version ", version,
                                                " of the policies was accepted before with other files (", path_,
                                                "). Sign what has changed with a higher version"));
  }
  return std::move(before->text);
}

absl::Status AcceptedVersion::CheckFile() const { return ReadLine(path_, "what is pulled").status(); }

absl::Status AcceptedVersion::Check(int64_t version, const std::string& digest) const {
  return LineBefore(version, digest).status();
}

absl::StatusOr<bool> AcceptedVersion::Remember(int64_t version, const std::string& digest) {
  const absl::StatusOr<UniqueFd> lock = evidence::LockFolder(path_.substr(0, path_.rfind('/')), kPatience);
  if (!lock.ok()) return NotKept(lock.status());
  // Again: another agent may have accepted a higher one meanwhile.
  ASSIGN_OR_RETURN(const std::optional<std::string> before, LineBefore(version, digest));
  const std::string line = LineOf(version, digest);
  if (before == line && onDisk_ == line) return false;
  onDisk_.clear();
  if (const absl::Status written = evidence::WriteFile(path_, line, 0600); !written.ok()) return NotKept(written);
  onDisk_ = line;
  return !before.has_value();
}

}  // namespace kveil::bundle
