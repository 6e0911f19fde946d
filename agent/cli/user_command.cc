// `kveil user set` and `show`.
#include "base/text.h"
#include "cli/changing_users.h"
#include "cli/common.h"

namespace kveil::cli {

using admin::ChangeUsersCommand;

int RunUserSet(const CommonOptions& common, const AttributeOptions& options) {
  std::vector<ChangeUsersCommand::Change> changes;
  for (const std::string& text : options.set) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) return Fail("user set", StrCat("\"", text, "\" is not NAME=VALUE"));
    ChangeUsersCommand::Change& change = changes.emplace_back();
    change.action = ChangeUsersCommand::kSet;
    change.name = text.substr(0, equals);
    change.value = text.substr(equals + 1);
  }
  for (const std::string& name : options.removed) {
    ChangeUsersCommand::Change& change = changes.emplace_back();
    change.action = ChangeUsersCommand::kRemove;
    change.name = name;
  }
  if (changes.empty()) return Fail("user set", "nothing to do: give --attribute NAME=VALUE or --remove NAME");
  return ChangeUser("user set", common, options.who, std::move(changes));
}

int RunUserShow(const CommonOptions& common, const AttributeOptions& options) {
  return ShowUser("user show", common, options.who, /*withAttributes=*/true, /*withHistory=*/false);
}

}  // namespace kveil::cli
