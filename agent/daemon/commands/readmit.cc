#include <algorithm>

#include "absl/time/time.h"
#include "base/status_macros.h"
#include "daemon/commands/await_agents.h"
#include "daemon/commands/commands.h"
#include "daemon/commands/receipt_writing.h"

namespace kveil::daemon {
namespace {

using admin::ReadmitCommand;
using receipts::Receipt;

// An agent may give out a throw-away key for as long as its caches keep keys, and a worker then keeps it as long again.
absl::StatusOr<absl::Time> LastThrowAway(keys::KeyService& keys, absl::Time now) {
  std::chrono::milliseconds longest = keys.options().cacheTtl;
  ASSIGN_OR_RETURN(const keys::KeyService::AgentsRead read, keys.ReadAgents());
  for (const keys::Registry::Agent& agent : read.agents) longest = std::max(longest, agent.cacheTtl);
  return now + absl::FromChrono(2 * longest + std::chrono::seconds(1));
}

admin::ReceiptNote WriteOne(const ErasureContext& context, const ReadmitCommand::Request& request,
                            const admin::Caller& caller, const keys::ReadmittedUser& readmitted) {
  Receipt receipt = BeginReceipt(Receipt::Kind::kReadmission, context.keys, caller, request.reason, readmitted.time);
  Receipt::User& user = receipt.users.emplace_back();
  for (const keys::ErasedUser::Earlier& earlier : readmitted.keyspaces) {
    user.keyspaces.push_back(KeyspaceOf(earlier.keyspace));
    user.keyspaces.back().erasedBefore = TextOf(earlier.time);
  }
  return WriteReceipt(context.receipts, receipt);
}

}  // namespace

absl::StatusOr<ReadmitCommand::Response> Readmit(const ErasureContext& context, const ReadmitCommand::Request& request,
                                                 const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason, "nobody was readmitted"));
  ASSIGN_OR_RETURN(const keys::ReadmittedUser readmitted, context.keys.Readmit(request.keyspace, request.user));
  if (readmitted.keyspaces.empty() && readmitted.underWay.empty()) {
    return absl::NotFoundError("this user is not erased there");
  }
  ReadmitCommand::Response response;
  response.underWay = readmitted.underWay;
  if (readmitted.keyspaces.empty()) return response;
  response.receipt = WriteOne(context, request, caller, readmitted);
  for (const keys::ErasedUser::Earlier& earlier : readmitted.keyspaces) {
    response.keyspaces.push_back({earlier.keyspace.name, TextOf(earlier.time)});
  }
  // The user is readmitted, also if nobody knows how long it takes.
  if (const absl::StatusOr<absl::Time> last = LastThrowAway(context.keys, readmitted.time); last.ok()) {
    response.from = TextOf(*last);
  }
  return response;
}

}  // namespace kveil::daemon
