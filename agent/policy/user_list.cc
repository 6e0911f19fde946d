#include "policy/user_list.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "config/read_file.h"
#include "formats/utf8.h"

namespace kveil::policy {
namespace {

// In bytes. 100,000 ids of 640 bytes each; most have fewer than 40.
constexpr size_t kLongestFile = 64 << 20;

// Text with a space around it is another user than without, and looks alike.
bool HasSpaceAround(std::string_view line) {
  return line.front() == ' ' || line.front() == '\t' || line.back() == ' ' || line.back() == '\t';
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadUserList(const std::string& path, formats::IdEncoding as, size_t most) {
  ASSIGN_OR_RETURN(const std::string text, config::ReadTextFile(path, kLongestFile));
  std::vector<std::string> users;
  std::string scratch;
  size_t number = 0;
  const auto wrong = [&](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(path, ": line ", number, ": ", what));
  };
  for (const absl::string_view part : absl::StrSplit(ToAbsl(text), '\n')) {
    ++number;
    std::string_view line = ToStd(part);
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) return wrong("it begins with a byte order mark");
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (HasSpaceAround(line)) return wrong("there is a space before or behind the id");
    std::string_view id;
    const formats::IdProblem problem = formats::IdOfText(as, line, scratch, id);
    if (problem != formats::IdProblem::kNone) return wrong(formats::Explain(problem));
    if (!formats::IsUtf8(id)) return wrong("it is not UTF-8 text");
    if (users.size() == most) return wrong(StrCat("a file may list ", most, " users"));
    users.emplace_back(id);
  }
  std::sort(users.begin(), users.end());
  users.erase(std::unique(users.begin(), users.end()), users.end());
  return users;
}

}  // namespace kveil::policy
