#include "policy/user_list.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
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

absl::StatusOr<UserList> UserLists::Read(const std::string& path, formats::IdEncoding as) {
  const auto found = lists_.find({path, as});
  if (found != lists_.end()) return found->second;
  return lists_.emplace(std::make_pair(path, as), ReadNew(path, as)).first->second;
}

absl::StatusOr<UserList> UserLists::ReadNew(const std::string& path, formats::IdEncoding as) {
  ASSIGN_OR_RETURN(const std::string text, config::ReadTextFile(path, kLongestFile));
  if (text.size() > bytesLeft_) {
    return absl::InvalidArgumentError(StrCat(path, ": the lists of users together may have ", mostBytes_, " bytes"));
  }
  bytesLeft_ -= text.size();
  absl::flat_hash_set<std::string> users;
  std::string scratch;
  size_t number = 0;
  const auto wrong = [&](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(path, ": line ", number, ": ", what));
  };
  for (size_t begin = 0; begin < text.size();) {
    ++number;
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) return wrong("it does not end with a line feed, so the file may be cut off");
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) return wrong("it begins with a byte order mark");
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (HasSpaceAround(line)) return wrong("there is a space before or behind the id");
    std::string_view id;
    const formats::IdProblem problem = formats::IdOfText(as, line, scratch, id);
    if (problem != formats::IdProblem::kNone) return wrong(formats::Explain(problem));
    if (!formats::IsUtf8(id)) return wrong("it is not UTF-8 text");
    users.emplace(id);
    if (users.size() > kMostListedUsers) return wrong(StrCat("a file may list ", kMostListedUsers, " users"));
  }
  if (users.empty()) {
    return absl::InvalidArgumentError(StrCat(path, ": lists nobody; to let nobody read, remove the entry"));
  }
  return ListOf(std::vector<std::string>(users.begin(), users.end()));
}

UserList ListOf(std::vector<std::string> users) {
  std::sort(users.begin(), users.end());
  users.erase(std::unique(users.begin(), users.end()), users.end());
  return std::make_shared<const std::vector<std::string>>(std::move(users));
}

}  // namespace kveil::policy
