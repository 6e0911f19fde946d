// `kveil readmit`: has the agent end a user's erasure.
#include <iostream>

#include "admin/admin_client.h"
#include "admin/readmit_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"

namespace kveil::cli {
namespace {

using admin::ReadmitCommand;

void Print(const ReadmitCommand::Response& response) {
  for (const ReadmitCommand::Keyspace& keyspace : response.keyspaces) {
    std::cout << "readmitted in keyspace " << keyspace.name << ", erased there at " << keyspace.erased << "\n";
  }
  if (response.keyspaces.empty()) return;
  std::cout << "What was erased stays unreadable. New records are sealed under a new key, by all agents from "
            << response.from << " on; those that are sent before may stay unreadable.\n";
  if (response.receipt.number.has_value()) PrintReceipts({*response.receipt.number});
}

}  // namespace

int RunReadmit(const CommonOptions& common, const EraseOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail("readmit", socket.status());
  if (options.keyspace.has_value() && options.keyspace->empty()) return Fail("readmit", "--keyspace is empty");
  if (options.user.empty()) return Fail("readmit", "--user is empty");
  const absl::StatusOr<std::string> id = SpellUser(options.user, options.encoding);
  if (!id.ok()) return Fail("readmit", id.status());
  const auto answer =
      admin::Ask<ReadmitCommand>(*socket, {.user = *id, .keyspace = options.keyspace, .reason = options.reason});
  if (!answer.ok()) return Fail("readmit", answer.status());
  const ReadmitCommand::Response& response = answer->response;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    Print(response);
  }
  int status = 0;
  if (response.receipt.error.has_value()) {
    Fail("readmit", StrCat("readmitted, but there is no receipt: ", *response.receipt.error));
    status = kNoReceipt;
  }
  for (const std::string& keyspace : response.underWay) {
    Fail("readmit", StrCat("not readmitted in keyspace ", keyspace,
                           ": the erasure has yet to reach an agent; try again when `kveil erase` has ended"));
    status = kNotEverywhere;
  }
  return status;
}

}  // namespace kveil::cli
