#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "daemon/commands/commands.h"
#include "keys/service/erasure_spread.h"
#include "receipts/receipt.h"

namespace kveil::daemon {
namespace {

using receipts::Receipt;

// Longer than any cacheTtl.
constexpr std::chrono::hours kLongestWait{2};

std::string TextOf(absl::Time time) { return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone()); }

std::optional<std::chrono::milliseconds> PatienceOf(std::optional<uint64_t> waitSeconds) {
  if (!waitSeconds.has_value()) return std::nullopt;
  return std::chrono::seconds(std::min<uint64_t>(*waitSeconds, std::chrono::seconds(kLongestWait).count()));
}

// For receipts, so that one cannot be made to look like another.
absl::Status CheckReason(const std::optional<std::string>& reason) {
  constexpr size_t kLongest = 500;
  if (!reason.has_value()) return absl::OkStatus();
  const bool isPlain = std::none_of(reason->begin(), reason->end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (isPlain && !reason->empty() && reason->size() <= kLongest) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("the reason has 1 to ", kLongest, " bytes without control characters; nobody was erased"));
}

admin::Spread Await(const CommandContext& context, int64_t number, std::optional<uint64_t> waitSeconds,
                    const admin::Caller& caller) {
  const keys::ErasureSpread spread =
      keys::AwaitAgents(context.keys, number, PatienceOf(waitSeconds), [&] { return !caller.isEnding(); });
  admin::Spread told;
  told.complete = spread.isComplete;
  for (const keys::ErasureSpread::Agent& agent : spread.agents) {
    admin::Spread::Agent& one = told.agents.emplace_back();
    one.name = agent.name;
    if (agent.confirmed.has_value()) {
      one.confirmed = TextOf(*agent.confirmed);
    } else {
      one.refusesFrom = TextOf(agent.refusesFrom);
    }
  }
  if (!spread.status.ok()) told.error = ToStd(spread.status.message());
  return told;
}

Receipt Begin(const CommandContext& context, const admin::Caller& caller, const std::optional<std::string>& reason,
              absl::Time time, int64_t number) {
  Receipt receipt;
  receipt.registry = context.keys.registryId();
  receipt.agent = context.keys.agentName();
  receipt.uid = caller.uid;
  receipt.reason = reason;
  receipt.time = TextOf(time);
  receipt.erasure = number;
  return receipt;
}

void AddUser(const keys::ErasedUser& user, Receipt& receipt) {
  Receipt::User& added = receipt.users.emplace_back();
  added.keys = user.keyCount;
  for (const keys::ErasedUser::Keyspace& keyspace : user.keyspaces) {
    const absl::string_view subject(reinterpret_cast<const char*>(keyspace.subject.data()), keyspace.subject.size());
    added.keyspaces.push_back({keyspace.name, absl::BytesToHexString(subject)});
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

// The users are erased whether or not it can be written.
admin::ReceiptNote Write(const CommandContext& context, const Receipt& receipt) {
  admin::ReceiptNote note;
  const absl::StatusOr<uint64_t> number = context.receipts.Append(receipt);
  if (number.ok()) {
    note.number = *number;
  } else {
    note.error = ToStd(number.status().message());
    log::Error("receipts.failed", {{"error", number.status()}});
  }
  return note;
}

}  // namespace

absl::StatusOr<admin::EraseCommand::Response> Erase(const CommandContext& context,
                                                    const admin::EraseCommand::Request& request,
                                                    const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason));
  const std::string users[] = {request.user};
  ASSIGN_OR_RETURN(const keys::ErasedUsers erased, context.keys.EraseUsers(request.keyspace, users));
  const keys::ErasedUser& user = erased.users.front();
  RETURN_IF_ERROR(StatusOf(user));
  context.metrics.UsersErased(1);
  admin::EraseCommand::Response response;
  for (const keys::ErasedUser::Keyspace& keyspace : user.keyspaces) {
    response.erased.keyspaces.push_back(keyspace.name);
  }
  response.erased.keys = user.keyCount;
  response.erased.time = TextOf(erased.erasedAt);
  response.erased.filesClean = erased.filesClean;
  response.spread = Await(context, erased.number, request.waitSeconds, caller);
  Receipt receipt = Begin(context, caller, request.reason, erased.erasedAt, erased.number);
  AddUser(user, receipt);
  AddSpread(*response.spread, receipt);
  response.receipt = Write(context, receipt);
  return response;
}

absl::StatusOr<admin::EraseManyCommand::Response> EraseMany(const CommandContext& context,
                                                            const admin::EraseManyCommand::Request& request,
                                                            const admin::Caller& caller) {
  using Command = admin::EraseManyCommand;
  static_assert(Command::kMostUsers == keys::kMostUsersOfAnErasure);
  RETURN_IF_ERROR(CheckReason(request.reason));
  ASSIGN_OR_RETURN(const keys::ErasedUsers erased, context.keys.EraseUsers(request.keyspace, request.users));
  Command::Response response;
  response.number = static_cast<uint64_t>(erased.number);
  response.time = TextOf(erased.erasedAt);
  response.filesClean = erased.filesClean;
  Receipt receipt = Begin(context, caller, request.reason, erased.erasedAt, erased.number);
  for (const keys::ErasedUser& user : erased.users) {
    response.keys += user.keyCount;
    response.outcomes.emplace_back(user.keyCount > 0               ? Command::kErased
                                   : user.erasedBefore.has_value() ? Command::kErasedBefore
                                                                   : Command::kNoKey);
    if (user.keyCount > 0) AddUser(user, receipt);
  }
  if (receipt.users.empty()) return response;
  context.metrics.UsersErased(receipt.users.size());
  response.receipt = Write(context, receipt);
  return response;
}

absl::StatusOr<admin::AwaitErasureCommand::Response> AwaitErasure(const CommandContext& context,
                                                                  const admin::AwaitErasureCommand::Request& request,
                                                                  const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason));
  // A receipt for a number that is still to be given would confirm erasures that nobody has made yet.
  ASSIGN_OR_RETURN(const int64_t newest, context.keys.ReadLastErasure());
  if (request.number > static_cast<uint64_t>(newest)) {
    return absl::InvalidArgumentError(StrCat("there is no erasure ", request.number, " yet; the newest is ", newest));
  }
  const auto number = static_cast<int64_t>(request.number);
  admin::AwaitErasureCommand::Response response;
  response.spread = Await(context, number, request.waitSeconds, caller);
  if (number == 0) return response;  // none was made
  Receipt receipt = Begin(context, caller, request.reason, absl::Now(), number);
  receipt.kind = Receipt::Kind::kConfirmation;
  AddSpread(response.spread, receipt);
  response.receipt = Write(context, receipt);
  return response;
}

}  // namespace kveil::daemon
