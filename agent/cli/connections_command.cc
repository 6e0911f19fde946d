// `kveil connections`: what the agent serves now, connection by connection.
#include <iostream>

#include "admin/admin_client.h"
#include "base/text.h"
#include "cli/asking_connections.h"
#include "cli/common.h"
#include "cli/connection_table.h"

namespace kveil::cli {

int RunConnections(const CommonOptions& common, const ConnectionsOptions& options) {
  constexpr std::string_view kCommand = "connections";
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const auto answer = admin::Ask<admin::ConnectionsCommand>(*socket, RequestOf(options, /*recently=*/false));
  if (!answer.ok()) return Fail(kCommand, answer.status());
  const admin::ConnectionsCommand::Response& response = answer->response;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    for (const std::string& line : ConnectionTable(response.connections)) std::cout << line << "\n";
    std::cout << SummaryOf(response);
    if (response.fitting > response.connections.size()) {
      std::cout << "; the " << response.connections.size() << " with the most traffic are listed (--most)";
    }
    std::cout << "\n";
  }
  if (response.silentWorkers == 0) return 0;
  return Fail(kCommand, StrCat(response.silentWorkers,
                               " worker thread(s) of the agent did not answer in time: their "
                               "connections are missing"));
}

}  // namespace kveil::cli
