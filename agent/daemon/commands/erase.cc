#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "daemon/commands/await_agents.h"
#include "daemon/commands/commands.h"
#include "daemon/commands/receipt_writing.h"
#include "receipts/receipt.h"

namespace kveil::daemon {
namespace {

using receipts::Receipt;

// How often an erasure is asked for again, as the registry was opened anew.
constexpr uint64_t kMostRepeats = 3;

// Of a user that was erased before, too: the receipt of that erasure may never have been written.
void AddUser(const keys::ErasedUser& user, Receipt& receipt) {
  if (user.keyspaces.empty() && user.earlier.empty()) return;
  Receipt::User& added = receipt.users.emplace_back();
  added.keys = user.keyCount;
  for (const keys::ErasedUser::Keyspace& keyspace : user.keyspaces) added.keyspaces.push_back(KeyspaceOf(keyspace));
  for (const keys::ErasedUser::Earlier& earlier : user.earlier) {
    added.keyspaces.push_back(KeyspaceOf(earlier.keyspace));
    added.keyspaces.back().erasedBefore = TextOf(earlier.time);
  }
}

void AddSpread(const admin::Spread& spread, Receipt& receipt) {
  Receipt::Spread added;
  added.complete = spread.complete;
  for (const admin::Spread::Agent& agent : spread.agents) {
    added.agents.push_back({agent.name, agent.confirmed, agent.refusesFrom});
  }
  added.error = spread.error;
  receipt.spread = std::move(added);
}

struct Erasure {
  keys::ErasedUsers erased;
  admin::ReceiptNote receipt;  // empty when no user had a key, now or before
};

// The receipt is written at once: whoever asks may not live to hear of the erasure.
absl::StatusOr<Erasure> EraseNow(const ErasureContext& context, const admin::Caller& caller,
                                 const std::optional<std::string>& keyspace, absl::Span<const std::string> users,
                                 const std::optional<std::string>& reason) {
  Erasure erasure;
  ASSIGN_OR_RETURN(erasure.erased, context.keys.EraseUsers(keyspace, users));
  Receipt receipt = BeginReceipt(Receipt::Kind::kErasure, context.keys, caller, reason, erasure.erased.erasedAt);
  receipt.erasure = erasure.erased.number;
  size_t count = 0;
  for (const keys::ErasedUser& user : erasure.erased.users) {
    AddUser(user, receipt);
    if (!user.keyspaces.empty()) ++count;
  }
  context.metrics.UsersErased(count);
  if (!receipt.users.empty()) erasure.receipt = WriteReceipt(context.receipts, receipt);
  return erasure;
}

admin::ReceiptNote Confirm(const ErasureContext& context, const admin::Caller& caller,
                           const std::optional<std::string>& reason, int64_t number, const admin::Spread& spread) {
  Receipt receipt = BeginReceipt(Receipt::Kind::kConfirmation, context.keys, caller, reason, absl::Now());
  receipt.erasure = number;
  AddSpread(spread, receipt);
  return WriteReceipt(context.receipts, receipt);
}

// Waits for the agents. When the registry was opened anew meanwhile, perhaps on a standby that has not got the erasure,
// asks for it again, and waits for that one.
absl::Status AwaitForGood(const ErasureContext& context, const admin::EraseCommand::Request& request,
                          const admin::Caller& caller, keys::ErasedUsers erased,
                          admin::EraseCommand::Response& response) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  std::optional<std::chrono::milliseconds> patience = PatienceOf(request.waitSeconds);
  const std::string users[] = {request.user};
  for (int64_t number = erased.number;;) {
    Heard heard = AwaitAgents(context.keys, number, patience, caller);
    response.spread = std::move(heard.spread);
    if (!heard.opening.has_value() || *heard.opening == erased.opening) {
      if (number > 0) response.confirmation = Confirm(context, caller, request.reason, number, *response.spread);
      return absl::OkStatus();
    }
    log::Warning("erase.again", {{"error", "the registry was opened anew"}});
    if (response.askedAgain == kMostRepeats) return absl::UnavailableError("it was opened anew again and again");
    ASSIGN_OR_RETURN(Erasure again, EraseNow(context, caller, request.keyspace, users, request.reason));
    erased = std::move(again.erased);
    // The numbers of a registry that has lost some go on behind those. What is confirmed has to be among its own: a
    // number that is still to be given would confirm erasures that nobody has made yet.
    const int64_t asked = std::exchange(number, erased.number);
    if (number == 0) {
      ASSIGN_OR_RETURN(const int64_t newest, context.keys.ReadLastErasure());
      number = std::min(asked, newest);
    }
    ++response.askedAgain;
    response.keysAgain += erased.users.front().keyCount;
    // The key may be lost with its erasure: then there is nothing to have a receipt of.
    if (again.receipt.number.has_value() || again.receipt.error.has_value())
      response.receipt = std::move(again.receipt);
    response.erased.filesClean &= erased.filesClean;
    if (patience.has_value()) {
      const auto past = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
      patience = std::max(*PatienceOf(request.waitSeconds) - past, std::chrono::milliseconds(0));
    }
  }
}

}  // namespace

absl::StatusOr<admin::EraseCommand::Response> Erase(const ErasureContext& context,
                                                    const admin::EraseCommand::Request& request,
                                                    const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason, "nobody was erased"));
  const std::string users[] = {request.user};
  ASSIGN_OR_RETURN(Erasure erasure, EraseNow(context, caller, request.keyspace, users, request.reason));
  const keys::ErasedUser& user = erasure.erased.users.front();
  const absl::Status status = StatusOf(user);
  if (absl::IsNotFound(status)) return status;
  admin::EraseCommand::Response response;
  for (const keys::ErasedUser::Keyspace& keyspace : user.keyspaces) {
    response.erased.keyspaces.push_back(keyspace.name);
  }
  response.erased.keys = user.keyCount;
  response.erased.time = TextOf(erasure.erased.erasedAt);
  if (user.keyspaces.empty()) response.erased.erasedBefore = TextOf(*user.erasedBefore);
  response.erased.filesClean = erasure.erased.filesClean;
  response.receipt = std::move(erasure.receipt);
  if (const absl::Status heard = AwaitForGood(context, request, caller, std::move(erasure.erased), response);
      !heard.ok()) {
    response.spread->complete = false;
    response.spread->error = StrCat("the registry was opened anew, perhaps on a server that has lost the erasure, and ",
                                    ToStd(heard.message()), ": erase the user again");
  }
  return response;
}

absl::StatusOr<admin::EraseManyCommand::Response> EraseMany(const ErasureContext& context,
                                                            const admin::EraseManyCommand::Request& request,
                                                            const admin::Caller& caller) {
  using Command = admin::EraseManyCommand;
  static_assert(Command::kMostUsers == keys::kMostUsersOfAnErasure);
  RETURN_IF_ERROR(CheckReason(request.reason, "nobody was erased"));
  ASSIGN_OR_RETURN(Erasure erasure, EraseNow(context, caller, request.keyspace, request.users, request.reason));
  Command::Response response;
  response.number = static_cast<uint64_t>(erasure.erased.number);
  response.time = TextOf(erasure.erased.erasedAt);
  response.filesClean = erasure.erased.filesClean;
  response.opening = OpeningOf(context.keys, erasure.erased.opening);
  response.receipt = std::move(erasure.receipt);
  for (const keys::ErasedUser& user : erasure.erased.users) {
    response.keys += user.keyCount;
    response.outcomes.emplace_back(!user.keyspaces.empty()         ? Command::kErased
                                   : user.erasedBefore.has_value() ? Command::kErasedBefore
                                                                   : Command::kNoKey);
  }
  return response;
}

// Whoever may ask for this may erase anybody: that the receipts are true was checked by the one who asks.
absl::StatusOr<admin::EraseAgainCommand::Response> EraseAgain(const ErasureContext& context,
                                                              const admin::EraseAgainCommand::Request& request,
                                                              const admin::Caller& caller) {
  static_assert(admin::EraseAgainCommand::kMostUsers == keys::kMostUsersOfAnErasure);
  RETURN_IF_ERROR(CheckReason(request.reason, "nobody was erased"));
  const std::string registry = context.keys.registryId();
  const bool isQuestion = request.isDryRun && request.pseudonyms.empty();
  if (request.registry != registry && !isQuestion) {
    return absl::InvalidArgumentError(StrCat("they are receipts of registry ", request.registry, "; this agent's is ",
                                             registry, "; nobody was erased"));
  }
  if (request.pseudonyms.size() > admin::EraseAgainCommand::kMostUsers) {
    return absl::InvalidArgumentError("there are too many users; nobody was erased");
  }
  if (request.pseudonyms.size() != request.erasures.size()) {
    return absl::InvalidArgumentError("each user has the number of an erasure; nobody was erased");
  }
  std::map<keys::Subject, int64_t> numbers;
  for (size_t i = 0; i < request.pseudonyms.size(); ++i) {
    ASSIGN_OR_RETURN(const keys::Subject subject, SubjectOf(request.pseudonyms[i]));
    int64_t& number = numbers[subject];
    number = std::max(number, static_cast<int64_t>(request.erasures[i]));
  }
  std::vector<keys::ToldErasure> told;
  for (const auto& [subject, number] : numbers) told.push_back({subject, number});
  ASSIGN_OR_RETURN(const keys::KeyService::SubjectsRead read, context.keys.ReadErased(told));
  // Also those that are erased already: what was asked for before may not have reached all agents yet.
  std::vector<keys::Subject> subjects;
  uint64_t missing = 0;
  for (size_t i = 0; i < told.size(); ++i) {
    if (read.isReadmitted[i]) continue;
    subjects.push_back(told[i].subject);
    missing += read.isErased[i] ? 0 : 1;
  }
  admin::EraseAgainCommand::Response response;
  response.registry = registry;
  if (request.isDryRun) {
    response.missing = missing;
    response.opening = OpeningOf(context.keys, read.opening);
    return response;
  }
  ASSIGN_OR_RETURN(const keys::ErasedUsers erased, context.keys.EraseSubjects(request.keyspace, subjects));
  Receipt receipt = BeginReceipt(Receipt::Kind::kErasure, context.keys, caller, request.reason, erased.erasedAt);
  receipt.erasure = erased.number;
  for (const keys::ErasedUser& user : erased.users) {
    response.refused += user.number == 0 ? 1 : 0;
    if (user.keyspaces.empty()) continue;
    ++response.missing;
    response.keys += user.keyCount;
    AddUser(user, receipt);
  }
  context.metrics.UsersErased(response.missing);
  if (!receipt.users.empty()) response.receipt = WriteReceipt(context.receipts, receipt);
  response.number = static_cast<uint64_t>(erased.number);
  response.filesClean = erased.filesClean;
  response.opening = OpeningOf(context.keys, erased.opening);
  return response;
}

absl::StatusOr<admin::AwaitErasureCommand::Response> AwaitErasure(const ErasureContext& context,
                                                                  const admin::AwaitErasureCommand::Request& request,
                                                                  const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason, "nobody was erased"));
  // A receipt for a number that is still to be given would confirm erasures that nobody has made yet.
  ASSIGN_OR_RETURN(const int64_t newest, context.keys.ReadLastErasure());
  if (request.number > static_cast<uint64_t>(newest)) {
    return absl::InvalidArgumentError(StrCat("there is no erasure ", request.number, " yet; the newest is ", newest));
  }
  const auto number = static_cast<int64_t>(request.number);
  Heard heard = AwaitAgents(context.keys, number, PatienceOf(request.waitSeconds), caller);
  admin::AwaitErasureCommand::Response response;
  response.spread = std::move(heard.spread);
  if (heard.opening.has_value()) response.opening = OpeningOf(context.keys, *heard.opening);
  if (number == 0) return response;  // none was made
  if (response.spread.complete) {
    // It may have been opened anew during the wait, on a server that has given fewer numbers.
    const absl::StatusOr<int64_t> last = context.keys.ReadLastErasure();
    response.spread.complete = last.ok() && *last >= number;
    if (!response.spread.complete) {
      response.spread.error = last.ok() ? StrCat("the registry has lost erasure ", number, ": erase again")
                                        : ToStd(last.status().message());
    }
  }
  response.receipt = Confirm(context, caller, request.reason, number, response.spread);
  return response;
}

}  // namespace kveil::daemon
