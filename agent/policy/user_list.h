// Files that list users, one id per line.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "formats/user_id.h"
#include "policy/policy_files.h"
#include "policy/where.h"

namespace kveil::policy {

// Those that some policies name. Each is read once, and whoever names it shares it.
class UserLists {
 public:
  // `files` is told of each, and outlives this. `mostBytes`: of all files together.
  explicit UserLists(PolicyFiles& files, size_t mostBytes = 256 << 20)
      : files_(files), bytesLeft_(mostBytes), mostBytes_(mostBytes) {}

  // The file is as formats/user_lines.h has it; an id may be there twice. Errors name the file and the line:
  // kInvalidArgument (what is no such file; more than kMostListedUsers; nobody), and those of config::ReadTextFile and
  // PolicyFiles::Add.
  absl::StatusOr<UserList> Read(const std::string& path, formats::IdEncoding as);

 private:
  absl::StatusOr<UserList> ReadNew(const std::string& path, formats::IdEncoding as);

  PolicyFiles& files_;
  size_t bytesLeft_;
  const size_t mostBytes_;
  std::map<std::pair<std::string, formats::IdEncoding>, absl::StatusOr<UserList>> lists_;
};

// As a UserList has them. `users`: at least one.
UserList ListOf(std::vector<std::string> users);

}  // namespace kveil::policy
