// `kveil reload`: has the running agent read its configuration again, and says what came of it.
#include <iostream>
#include <string_view>

#include "admin/admin_client.h"
#include "admin/reload_command.h"
#include "cli/common.h"

namespace kveil::cli {
namespace {

void PrintFields(const std::vector<std::string>& fields, std::string_view what) {
  for (const std::string& field : fields) std::cout << field << what << "\n";
}

}  // namespace

int RunReload(const CommonOptions& common) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail("reload", socket.status());
  const auto answer = admin::Ask<admin::ReloadCommand>(*socket, {});
  if (!answer.ok()) return Fail("reload", answer.status());
  const auto& [applied, needRestart] = answer->response;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    PrintFields(applied, " is in force");
    PrintFields(needRestart, " needs a restart of the agent");
    if (applied.empty() && needRestart.empty()) std::cout << "the configuration is the one in force\n";
  }
  return 0;
}

}  // namespace kveil::cli
