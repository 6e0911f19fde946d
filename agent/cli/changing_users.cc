#include "cli/changing_users.h"

#include <algorithm>
#include <iostream>
#include <utility>

#include "admin/admin_client.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"

namespace kveil::cli {
namespace {

using admin::AwaitChangesCommand;
using admin::ChangeUsersCommand;
using admin::ReadUserCommand;

std::string Describe(const ChangeUsersCommand::Change& change) {
  if (change.action == ChangeUsersCommand::kGrant) {
    return StrCat("consent to ", change.name, change.until.has_value() ? StrCat(" until ", *change.until) : "");
  }
  if (change.action == ChangeUsersCommand::kWithdraw) return StrCat("withdrawal of ", change.name);
  return StrCat("attribute ", change.name, change.action == ChangeUsersCommand::kRemove ? " removed" : "");
}

// Whether it is as was asked for.
bool IsDone(const std::string& outcome, const ChangeUsersCommand::Change& change) {
  const bool isTaken = change.action == ChangeUsersCommand::kWithdraw || change.action == ChangeUsersCommand::kRemove;
  return outcome == ChangeUsersCommand::kChanged || outcome == ChangeUsersCommand::kUnchanged ||
         (outcome == ChangeUsersCommand::kErased && isTaken);
}

void PrintOutcome(const std::string& outcome, const ChangeUsersCommand::Change& change) {
  std::cout << Describe(change) << ": ";
  if (outcome == ChangeUsersCommand::kChanged) {
    std::cout << "recorded\n";
  } else if (outcome == ChangeUsersCommand::kUnchanged) {
    std::cout << "it was so before\n";
  } else if (outcome == ChangeUsersCommand::kErased) {
    std::cout << "the user was erased: nothing is known, and nothing can be recorded any more\n";
  } else if (outcome == ChangeUsersCommand::kDamaged) {
    std::cout << "not recorded: what is stored of the user cannot be read (docs/consent.md)\n";
  } else if (outcome == ChangeUsersCommand::kFollowed) {
    std::cout << "not recorded: the user's consents come from a topic (docs/consent.md)\n";
  } else if (outcome == ChangeUsersCommand::kTooMany) {
    std::cout << "not recorded: the user has as many as there may be (64 consents, 32 attributes)\n";
  } else {
    std::cout << outcome << "\n";
  }
}

std::string Join(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) StrAppend(&joined, joined.empty() ? "" : ", ", text);
  return joined;
}

void PrintHistory(const ReadUserCommand::PastChange& past) {
  std::cout << "  " << past.time << "  ";
  std::string separator;
  for (const ReadUserCommand::Granted& granted : past.granted) {
    std::cout << separator << "granted " << granted.purpose;
    if (granted.until.has_value()) std::cout << " until " << *granted.until;
    separator = ", ";
  }
  for (const std::string& purpose : past.withdrawn) {
    std::cout << separator << "withdrawn " << purpose;
    separator = ", ";
  }
  std::cout << "  (" << (past.isFromTopic ? std::string("the topic") : StrCat("uid ", past.uid)) << " at agent "
            << past.agent << ")\n";
}

void PrintKnown(const ReadUserCommand::Known& known, bool withAttributes, bool withHistory) {
  std::cout << "keyspace " << known.keyspace << ":\n";
  if (known.erased.has_value()) std::cout << "  erased at " << *known.erased << "\n";
  if (known.isDamaged) std::cout << "  what is stored cannot be read (docs/consent.md)\n";
  if (known.isScattered)
    std::cout << "  has records in several partitions of the topic: no consent (docs/consent.md)\n";
  if (known.isFromTopic && !known.isCurrent) {
    std::cout << "  no consent counts: withdrawals may be missing, as nobody follows the topic (docs/consent.md)\n";
  }
  for (const ReadUserCommand::Consent& consent : known.consents) {
    std::cout << "  consents to " << consent.purpose;
    const bool hasEnded = !consent.holds && known.isCurrent;
    if (consent.until.has_value()) std::cout << (hasEnded ? ", ended at " : " until ") << *consent.until;
    if (known.isFromTopic) std::cout << " (from the topic)";
    std::cout << "\n";
  }
  if (withAttributes) {
    for (const ReadUserCommand::Attribute& attribute : known.attributes) {
      std::cout << "  attribute " << attribute.name << " = " << attribute.value << "\n";
    }
  }
  if (!withHistory) return;
  std::cout << "  history (the last 100 changes of consents):\n";
  for (const ReadUserCommand::PastChange& past : known.history) PrintHistory(past);
}

}  // namespace

Awaited AwaitChanges(std::string_view command, const std::string& socket, uint64_t number,
                     const std::vector<std::string>& openings, std::optional<uint64_t> waitSeconds) {
  Awaited awaited;
  if (number == 0) return awaited;  // nothing was ever known
  const auto answer = admin::Ask<AwaitChangesCommand>(socket, {number, waitSeconds}, AnswerTime(waitSeconds));
  if (!answer.ok()) {
    Fail(command, StrCat("recorded, but whether all agents know is not known: ", ToStd(answer.status().message())));
    awaited.status = kNotEverywhere;
    return awaited;
  }
  const AwaitChangesCommand::Response& response = answer->response;
  awaited.spread = admin::ToJson(response.spread);
  const bool isSame = !response.opening.has_value() ||
                      std::all_of(openings.begin(), openings.end(),
                                  [&](const std::string& opening) { return opening == *response.opening; });
  if (!isSame) {
    awaited.status =
        Fail(command,
             "the registry was opened anew meanwhile, perhaps on a server that has lost the change: run the "
             "same command again");
  } else if (!response.spread.complete) {
    Fail(command, response.spread.error.has_value()
                      ? StrCat("recorded, but whether all agents know is not known: ", *response.spread.error)
                      : "recorded, but not every agent has confirmed that it knows");
    awaited.status = kNotEverywhere;
  }
  return awaited;
}

void WarnOfUndeclared(std::string_view command, const std::vector<std::string>& purposes) {
  if (purposes.empty()) return;
  Warn(command, StrCat("no policy of this agent declares the purpose(s) ", Join(purposes),
                       "; recorded all the same (docs/consent.md)"));
}

void WarnOfUnnamed(std::string_view command, const std::optional<std::string>& keyspace) {
  Warn(command, StrCat("no policy of this agent names the keyspace ", keyspace.value_or(""), "; is it misspelled?"));
}

int ChangeUser(std::string_view command, const CommonOptions& common, const UserOptions& who,
               std::vector<ChangeUsersCommand::Change> changes) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(command, socket.status());
  const absl::StatusOr<std::string> id = SpellUser(who.user, who.encoding);
  if (!id.ok()) return Fail(command, id.status());
  for (ChangeUsersCommand::Change& change : changes) change.user = *id;
  const auto answer = admin::Ask<ChangeUsersCommand>(*socket, {changes, who.keyspace});
  if (!answer.ok()) return Fail(command, answer.status());
  const ChangeUsersCommand::Response& response = answer->response;
  if (response.outcomes.size() != changes.size()) {
    return Fail(command, "the agent's answer is not about the changes that it was asked for");
  }
  const Awaited awaited = AwaitChanges(command, *socket, response.number, {response.opening}, who.waitSeconds);
  WarnOfUndeclared(command, response.undeclared);
  if (response.isUnnamed) WarnOfUnnamed(command, who.keyspace);
  bool areDone = true;
  for (size_t i = 0; i < changes.size(); ++i) areDone &= IsDone(response.outcomes[i], changes[i]);
  if (common.json) {
    nlohmann::json json = answer->json;
    if (!awaited.spread.is_null()) json["spread"] = awaited.spread;
    std::cout << json.dump(2) << "\n";
  } else if (response.isKnown) {
    for (size_t i = 0; i < changes.size(); ++i) PrintOutcome(response.outcomes[i], changes[i]);
    std::cout << (response.keyspaces.empty() ? "no keyspace knows any user" : "keyspace(s): ")
              << Join(response.keyspaces) << "\n";
  }
  if (!areDone) return Fail(command, "not all of it could be recorded");
  if (!response.isKnown) {
    return Fail(command, "nothing was ever known of this user; is the id spelled as in the records?");
  }
  return awaited.status;
}

int ShowUser(std::string_view command, const CommonOptions& common, const UserOptions& who, bool withAttributes,
             bool withHistory) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(command, socket.status());
  const absl::StatusOr<std::string> id = SpellUser(who.user, who.encoding);
  if (!id.ok()) return Fail(command, id.status());
  auto answer = admin::Ask<ReadUserCommand>(*socket, {*id, who.keyspace});
  if (!answer.ok()) return Fail(command, answer.status());
  if (common.json) {
    nlohmann::json& json = answer->json;
    for (nlohmann::json& known : json["known"]) {
      if (!withAttributes) known.erase("attributes");
      if (!withHistory) known.erase("history");
    }
    std::cout << json.dump(2) << "\n";
    return 0;
  }
  for (const ReadUserCommand::Known& known : answer->response.known) PrintKnown(known, withAttributes, withHistory);
  if (answer->response.known.empty()) std::cout << "nothing is known of this user\n";
  return 0;
}

}  // namespace kveil::cli
