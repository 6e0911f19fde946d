#include "policy/user_list.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "config/read_file.h"
#include "formats/user_lines.h"

namespace kveil::policy {
namespace {

// In bytes. 100,000 ids of 640 bytes each; most have fewer than 40.
constexpr size_t kLongestFile = 64 << 20;

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
  RETURN_IF_ERROR(files_.Add(path, text));
  absl::flat_hash_set<std::string> users;
  formats::UserLines lines(path, as);
  size_t begin = 0;
  for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    ASSIGN_OR_RETURN(const std::string_view id, lines.IdOf(std::string_view(text).substr(begin, end - begin)));
    users.emplace(id);
    if (users.size() > kMostListedUsers) return lines.Wrong(StrCat("a file may list ", kMostListedUsers, " users"));
  }
  RETURN_IF_ERROR(lines.End(std::string_view(text).substr(begin)));
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
