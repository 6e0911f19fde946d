// `kveil erase --user`: has the agent destroy a user's keys. erase_many_command.cc is --users-from.
#include <iostream>
#include <vector>

#include "admin/admin_client.h"
#include "admin/erase_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"

namespace kveil::cli {
namespace {

using admin::EraseCommand;

void PrintErased(const EraseCommand::Erased& erased) {
  if (erased.erasedBefore.has_value()) {
    std::cout << "this user was erased before, at " << *erased.erasedBefore << ": no key was left to destroy\n";
    return;
  }
  std::cout << "erased at " << erased.time << ": " << erased.keys << " key(s) destroyed, keyspace(s):";
  for (const std::string& keyspace : erased.keyspaces) std::cout << " " << keyspace;
  std::cout << "\n";
}

void PrintRepeats(const EraseCommand::Response& response) {
  if (response.askedAgain == 0) return;
  std::cout << "The registry was opened anew meanwhile, perhaps on another server, and was asked again: "
            << response.keysAgain << " key(s) had to be destroyed again.\n";
}

void PrintPromise(bool isComplete, const EraseCommand::Erased& erased) {
  if (isComplete) {
    std::cout << "Every record of this user there is unreadable from now on, also in replicas, mirrors and backups of "
                 "Kafka.\n";
  }
  std::cout << "Copies of the registry from before still hold the wrapped key(s): destroy them, too.\n";
  if (!erased.filesClean) {
    std::cout
        << "The registry's write-ahead log still holds the wrapped keys. If it is an SQLite file that another process "
           "is reading, the agent goes on until they are out, and `kveil status` says so. PostgreSQL keeps them for a "
           "while: see docs/security.md.\n";
  }
}

}  // namespace

int RunErase(const CommonOptions& common, const EraseOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail("erase", socket.status());
  if (options.keyspace.has_value() && options.keyspace->empty()) return Fail("erase", "--keyspace is empty");
  if (!options.usersFrom.empty()) return EraseMany(*socket, common.json, options);
  if (options.user.empty()) return Fail("erase", "--user is empty");
  const absl::StatusOr<std::string> id = SpellUser(options.user, options.encoding);
  if (!id.ok()) return Fail("erase", id.status());
  const auto answer = admin::Ask<EraseCommand>(
      *socket,
      {.user = *id, .keyspace = options.keyspace, .waitSeconds = options.waitSeconds, .reason = options.reason},
      AnswerTime(options.waitSeconds));
  if (!answer.ok()) return Fail("erase", answer.status());
  const EraseCommand::Response& response = answer->response;
  const bool isComplete = response.spread.has_value() && response.spread->complete;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    PrintErased(response.erased);
    PrintRepeats(response);
    if (response.spread.has_value()) PrintAgents(*response.spread);
    PrintPromise(isComplete, response.erased);
    std::vector<uint64_t> receipts;
    for (const admin::ReceiptNote& receipt : {response.receipt, response.confirmation}) {
      if (receipt.number.has_value()) receipts.push_back(*receipt.number);
    }
    PrintReceipts(receipts);
  }
  return EndErasure(response.spread,
                    response.receipt.error.has_value() ? response.receipt.error : response.confirmation.error);
}

}  // namespace kveil::cli
