// `kveil status`: asks the agent and prints its answer in plain words.
#include <iostream>
#include <string_view>
#include <vector>

#include "admin/admin_client.h"
#include "admin/status_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/plain.h"
#include "cli/words.h"

namespace kveil::cli {
namespace {

using admin::StatusCommand;

constexpr size_t kShownDigits = 12;

// Enough of it to compare nodes by eye.
std::string DigestText(std::string_view digest) {
  return digest.empty() ? "of unknown files" : StrCat("SHA-256 ", digest.substr(0, kShownDigits));
}

void PrintServed(const StatusCommand::Response& status) {
  const StatusCommand::Policies& policies = status.policies;
  const StatusCommand::Records& records = status.records;
  const StatusCommand::HeldConnects& held = status.heldConnects;
  std::cout << "kveil " << status.version << (status.ready ? " is ready" : " is NOT ready") << ", up "
            << DurationText(status.uptimeSeconds) << "\n"
            << "  serves    " << CountText(status.namespaces, "network namespace") << ", "
            << CountText(status.connections, "connection") << "\n"
            << "  held      " << CountText(held.held, "first connect") << ", " << held.released << " let go, "
            << held.ended << " ended\n"
            << "  policies  " << CountText(policies.files, "file") << ", " << CountText(policies.topics, "topic")
            << " (generation " << policies.generation << "), "
            << (policies.version == 0 ? "" : StrCat("signed as version ", policies.version, ", "))
            << DigestText(policies.digest)
            << (policies.confirmed.has_value() ? StrCat(", pulled last at ", *policies.confirmed) : "") << "\n"
            << "  records   " << records.sealed << " sealed, " << records.opened << " opened, " << records.dropped
            << " left out, " << records.refused << " refused\n"
            << "  kernel    " << status.kernel << "\n";
}

// What was protected may be in the clear there.
void PrintUnselected(const StatusCommand::Unselected& unselected) {
  for (const StatusCommand::UnselectedTopic& topic : unselected.topics) {
    std::cout << "  in clear  " << topic.topic << ", which no policy selects, is written to by "
              << Plain(topic.workload) << ", which has read a protected topic\n";
  }
  if (unselected.more) std::cout << "  in clear  and more topics like these\n";
}

void PrintConditions(std::string_view kind, const std::vector<StatusCommand::Condition>& conditions) {
  for (const StatusCommand::Condition& condition : conditions) {
    std::cout << "  " << kind << condition.name << ": " << Plain(condition.message) << "\n";
  }
}

}  // namespace

int RunStatus(const CommonOptions& common, bool onlyReady) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail("status", socket.status());
  const auto answer = admin::Ask<StatusCommand>(*socket, {});
  if (!answer.ok()) return Fail("status", answer.status());
  const StatusCommand::Response& status = answer->response;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    PrintServed(status);
    PrintUnselected(status.unselected);
    PrintConditions("WRONG     ", status.problems);
    PrintConditions("NOTE      ", status.notes);
  }
  if (status.ready && (onlyReady || status.problems.empty())) return 0;
  return Fail("status",
              StrCat(status.ready ? "ready, but " : "not ready, ", CountText(status.problems.size(), "problem")));
}

}  // namespace kveil::cli
