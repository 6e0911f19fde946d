// `kveil consent grant`, `withdraw` and `list`. consent_import_command.cc is `import`.
#include "cli/changing_users.h"
#include "cli/common.h"

namespace kveil::cli {

using admin::ChangeUsersCommand;

int RunConsentGrant(const CommonOptions& common, const ConsentOptions& options) {
  ChangeUsersCommand::Change change;
  change.action = ChangeUsersCommand::kGrant;
  change.name = options.purpose;
  change.until = options.until;
  return ChangeUser("consent grant", common, options.who, {change});
}

int RunConsentWithdraw(const CommonOptions& common, const ConsentOptions& options) {
  ChangeUsersCommand::Change change;
  change.action = ChangeUsersCommand::kWithdraw;
  change.name = options.purpose;
  return ChangeUser("consent withdraw", common, options.who, {change});
}

int RunConsentList(const CommonOptions& common, const ConsentOptions& options) {
  return ShowUser("consent list", common, options.who, /*withAttributes=*/false, options.withHistory);
}

}  // namespace kveil::cli
