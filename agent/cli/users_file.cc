// All of it is checked before anybody is erased.
#include "cli/users_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/text.h"
#include "cli/erasing.h"
#include "formats/user_lines.h"

namespace kveil::cli {
namespace {

constexpr size_t kMostLines = 10'000'000;

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadUsersFile(const std::string& path, const std::string& encoding) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno)));
  std::vector<std::string> users;
  const auto nobody = [](const absl::Status& status) {
    return absl::InvalidArgumentError(StrCat(ToStd(status.message()), "; nobody was erased"));
  };
  formats::UserLines lines(path, EncodingNamed(encoding));
  std::string line;
  for (; std::getline(file, line) && !file.eof(); line.clear()) {
    const absl::StatusOr<std::string_view> id = lines.IdOf(line);
    if (!id.ok()) return nobody(id.status());
    if (users.size() == kMostLines) return nobody(lines.Wrong(StrCat("a file may have ", kMostLines, " lines")));
    users.emplace_back(*id);
  }
  if (file.bad()) return absl::UnavailableError(StrCat(path, ": cannot be read; nobody was erased"));
  if (const absl::Status ended = lines.End(line); !ended.ok()) return nobody(ended);
  if (users.empty()) return absl::InvalidArgumentError(StrCat(path, ": has no line; nobody was erased"));
  return users;
}

}  // namespace kveil::cli
