// All of it is checked before anybody is erased.
#include "cli/users_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/text.h"
#include "cli/erasing.h"
#include "formats/utf8.h"

namespace kveil::cli {
namespace {

constexpr size_t kMostLines = 10'000'000;
// In bytes; the spelling of any id that records can hold is shorter (formats/user_id.h).
constexpr size_t kLongestLine = 8192;

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadUsersFile(const std::string& path, const std::string& encoding) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno)));
  std::vector<std::string> users;
  const auto wrong = [&](const auto& what) {
    return absl::InvalidArgumentError(StrCat(path, ": line ", users.size() + 1, ": ", what, "; nobody was erased"));
  };
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (users.size() == kMostLines) return wrong(StrCat("a file may have ", kMostLines, " lines"));
    if (users.empty() && line.starts_with("\xEF\xBB\xBF")) return wrong("it begins with a byte order mark");
    if (line.empty()) return wrong("it is empty");
    if (line.size() > kLongestLine) return wrong("it is too long for an id");
    absl::StatusOr<std::string> user = SpellUser(line, encoding);
    if (!user.ok()) return wrong(ToStd(user.status().message()));
    if (!formats::IsUtf8(*user)) return wrong("it is not UTF-8 text");
    users.push_back(*std::move(user));
  }
  if (file.bad()) return absl::UnavailableError(StrCat(path, ": cannot be read; nobody was erased"));
  if (users.empty()) return absl::InvalidArgumentError(StrCat(path, ": has no line; nobody was erased"));
  return users;
}

}  // namespace kveil::cli
