// `kveil consent grant`, `withdraw`, `list` and `reread`. consent_import_command.cc is `import`.
#include <iostream>

#include "admin/admin_client.h"
#include "admin/reread_command.h"
#include "cli/changing_users.h"
#include "cli/common.h"
#include "cli/erasing.h"

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

int RunConsentReread(const CommonOptions& common, const ConsentOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail("consent reread", socket.status());
  const auto answer = admin::Ask<admin::RereadCommand>(*socket, {options.who.keyspace.value_or("")});
  if (!answer.ok()) return Fail("consent reread", answer.status());
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    std::cout << "the topic of keyspace " << options.who.keyspace.value_or("")
              << " will be read from its beginning; until it is read to its end, none of its consents counts\n";
  }
  if (answer->response.isFollowed) return 0;
  std::cerr << "kveil consent reread: no agent has read the topic to its end a moment ago. The last one that followed "
               "is "
            << answer->response.follower
            << ". Until one follows, nothing is read, and what was read before stays in force\n";
  return kNotEverywhere;
}

}  // namespace kveil::cli
