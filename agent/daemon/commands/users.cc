// What the agent does when it is told what is known of users.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "daemon/commands/await_agents.h"
#include "daemon/commands/commands.h"
#include "formats/user_id.h"
#include "nlohmann/json.hpp"
#include "users/facts_change.h"

namespace kveil::daemon {
namespace {

using admin::ChangeUsersCommand;
using admin::ReadUserCommand;
using keys::ChangedUsers;
using users::FactsChange;
using Kind = FactsChange::Kind;
using Outcome = ChangedUsers::Outcome;

absl::StatusOr<FactsChange> ChangeOf(const ChangeUsersCommand::Change& asked) {
  FactsChange change;
  change.name = asked.name;
  if (asked.action == ChangeUsersCommand::kGrant) {
    change.kind = Kind::kGrant;
  } else if (asked.action == ChangeUsersCommand::kWithdraw) {
    change.kind = Kind::kWithdraw;
  } else if (asked.action == ChangeUsersCommand::kSet) {
    change.kind = Kind::kSet;
  } else if (asked.action == ChangeUsersCommand::kRemove) {
    change.kind = Kind::kRemove;
  } else {
    return absl::InvalidArgumentError(StrCat("there is no action \"", asked.action, "\""));
  }
  if (asked.until.has_value() && change.kind != Kind::kGrant) {
    return absl::InvalidArgumentError("only a consent that is granted has an end");
  }
  if (asked.value.has_value() != (change.kind == Kind::kSet)) {
    return absl::InvalidArgumentError("an attribute that is set has a value, and nothing else has");
  }
  change.value = asked.value.value_or("");
  if (asked.until.has_value()) {
    ASSIGN_OR_RETURN(change.until, users::ParseUntil(*asked.until));
  }
  RETURN_IF_ERROR(users::Check(change));
  if (change.until <= absl::Now()) {
    return absl::InvalidArgumentError("\"until\" is over already: withdraw the consent instead");
  }
  return change;
}

bool IsAdded(Kind kind) { return kind == Kind::kGrant || kind == Kind::kSet; }

// In order, each once.
void SortOut(std::vector<std::string>& names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

std::vector<std::string> KeyspacesOf(const policy::Policy& policy) {
  std::vector<std::string> keyspaces;
  for (const policy::TopicPolicy& topic : policy.topics()) {
    if (topic.seal.has_value() && topic.seal->scope == policy::SealScope::kUser) {
      keyspaces.push_back(topic.seal->keyspace);
    }
  }
  SortOut(keyspaces);
  return keyspaces;
}

// Where each kind of change is made.
struct Keyspaces {
  std::vector<std::string> ofAdded, ofTaken;
  const std::vector<std::string>& Of(Kind kind) const { return IsAdded(kind) ? ofAdded : ofTaken; }
};

absl::StatusOr<Keyspaces> KeyspacesFor(const UsersContext& context, const std::optional<std::string>& keyspace,
                                       absl::Span<const FactsChange> changes) {
  Keyspaces keyspaces;
  if (keyspace.has_value()) {
    if (keyspace->empty()) return absl::InvalidArgumentError("the keyspace is empty");
    keyspaces.ofAdded = keyspaces.ofTaken = {*keyspace};
    return keyspaces;
  }
  const bool adds =
      std::any_of(changes.begin(), changes.end(), [](const FactsChange& one) { return IsAdded(one.kind); });
  const bool takes =
      std::any_of(changes.begin(), changes.end(), [](const FactsChange& one) { return !IsAdded(one.kind); });
  if (adds) keyspaces.ofAdded = KeyspacesOf(*context.policies.Current());
  if (adds && keyspaces.ofAdded.empty()) {
    return absl::InvalidArgumentError(
        "no policy of this agent seals with the keys of users, so there is no keyspace to write to: name one");
  }
  if (takes) {
    ASSIGN_OR_RETURN(keyspaces.ofTaken, context.keys.ReadKeyspaces());
    // Also where the changes before are the first.
    keyspaces.ofTaken.insert(keyspaces.ofTaken.end(), keyspaces.ofAdded.begin(), keyspaces.ofAdded.end());
    SortOut(keyspaces.ofTaken);
  }
  return keyspaces;
}

// The purposes that are granted and that no policy declares, each once.
std::vector<std::string> Undeclared(const policy::Policy& policy, absl::Span<const FactsChange> changes) {
  std::vector<std::string> undeclared;
  const absl::Span<const std::string> declared = policy.purposes();
  for (const FactsChange& change : changes) {
    const bool isDeclared = std::find(declared.begin(), declared.end(), change.name) != declared.end();
    if (change.kind == Kind::kGrant && !isDeclared) undeclared.push_back(change.name);
  }
  SortOut(undeclared);
  return undeclared;
}

std::string_view NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kChanged:
      return ChangeUsersCommand::kChanged;
    case Outcome::kErased:
      return ChangeUsersCommand::kErased;
    case Outcome::kTooMany:
      return ChangeUsersCommand::kTooMany;
    case Outcome::kFollowed:
      return ChangeUsersCommand::kFollowed;
    case Outcome::kDamaged:
      return ChangeUsersCommand::kDamaged;
    case Outcome::kUnchanged:
      break;
  }
  return ChangeUsersCommand::kUnchanged;
}

// What to say of one change that was made in several keyspaces: what the caller must not miss. Erased only if it is so
// in all.
Outcome Worse(Outcome left, Outcome right) {
  for (const Outcome outcome :
       {Outcome::kDamaged, Outcome::kTooMany, Outcome::kFollowed, Outcome::kChanged, Outcome::kUnchanged}) {
    if (left == outcome || right == outcome) return outcome;
  }
  return Outcome::kErased;
}

// Texts of one change; anything else than this program writes is left out.
ReadUserCommand::PastChange PastChangeOf(const keys::KnownUser::PastChange& past) {
  ReadUserCommand::PastChange told;
  told.time = TextOf(past.time);
  const nlohmann::json json = nlohmann::json::parse(past.text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return told;
  absl::StatusOr<ReadUserCommand::PastChange> read =
      admin::FromJson<ReadUserCommand::PastChange>(json, admin::FieldRules::kResponse);
  if (!read.ok()) return told;
  read->time = told.time;
  return *std::move(read);
}

ReadUserCommand::Known Told(const keys::KnownUser& known, absl::Time now) {
  ReadUserCommand::Known told;
  told.keyspace = known.keyspace;
  told.isDamaged = known.isDamaged;
  if (known.erased.has_value()) told.erased = TextOf(*known.erased);
  for (const users::Consent& consent : known.facts.consents) {
    ReadUserCommand::Consent& one = told.consents.emplace_back();
    one.purpose = consent.purpose;
    if (consent.until != absl::InfiniteFuture()) one.until = TextOf(consent.until);
    one.holds = known.facts.Consents(consent.purpose, now);
  }
  if (const std::optional<users::FactsSource>& source = known.facts.source; source.has_value()) {
    told.isFromTopic = true;
    told.isCurrent = known.facts.clock != nullptr && known.facts.clock->IsCurrent(source->generation, now);
    told.isScattered = source->partition == users::kSeveralPartitions;
  }
  for (const auto& [name, value] : known.facts.attributes) told.attributes.push_back({name, value});
  for (const keys::KnownUser::PastChange& past : known.history) told.history.push_back(PastChangeOf(past));
  return told;
}

absl::Status CheckUser(const std::string& user) {
  if (!user.empty() && user.size() <= formats::kLongestUserId) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("a user's id has 1 to ", formats::kLongestUserId, " bytes"));
}

}  // namespace

absl::StatusOr<ChangeUsersCommand::Response> ChangeUsers(const UsersContext& context,
                                                         const ChangeUsersCommand::Request& request,
                                                         const admin::Caller& caller) {
  static_assert(ChangeUsersCommand::kMostChanges <= keys::kMostUserChanges);
  if (request.changes.size() > ChangeUsersCommand::kMostChanges) {
    return absl::InvalidArgumentError(
        StrCat("at most ", ChangeUsersCommand::kMostChanges, " changes are made at once"));
  }
  std::vector<FactsChange> changes;
  for (const ChangeUsersCommand::Change& asked : request.changes) {
    RETURN_IF_ERROR(CheckUser(asked.user));
    ASSIGN_OR_RETURN(FactsChange change, ChangeOf(asked));
    changes.push_back(std::move(change));
  }
  ASSIGN_OR_RETURN(const Keyspaces keyspaces, KeyspacesFor(context, request.keyspace, changes));
  std::vector<std::optional<Outcome>> outcomes(changes.size());
  ChangeUsersCommand::Response response;
  const std::shared_ptr<const policy::Policy> policy = context.policies.Current();
  response.isKnown = false;
  response.undeclared = Undeclared(*policy, changes);
  const std::vector<std::string> named = KeyspacesOf(*policy);
  response.isUnnamed =
      request.keyspace.has_value() && !std::binary_search(named.begin(), named.end(), *request.keyspace);
  std::vector<keys::UserChange> piece;
  std::vector<size_t> places;
  const auto make = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const ChangedUsers changed, context.keys.ChangeUsers(piece, caller.uid));
    for (size_t i = 0; i < places.size(); ++i) {
      std::optional<Outcome>& outcome = outcomes[places[i]];
      outcome = outcome.has_value() ? Worse(*outcome, changed.outcomes[i]) : changed.outcomes[i];
    }
    response.number = std::max(response.number, static_cast<uint64_t>(changed.number));
    response.isKnown |= changed.number > 0 || std::find(changed.outcomes.begin(), changed.outcomes.end(),
                                                        Outcome::kErased) != changed.outcomes.end();
    response.opening = OpeningOf(context.keys, changed.opening);
    piece.clear();
    places.clear();
    return absl::OkStatus();
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    response.keyspaces = keyspaces.Of(changes[i].kind);
    for (const std::string& keyspace : response.keyspaces) {
      piece.push_back({request.changes[i].user, keyspace, changes[i]});
      places.push_back(i);
      if (piece.size() < keys::kMostUserChanges) continue;
      RETURN_IF_ERROR(make());
    }
  }
  if (!piece.empty() || response.opening.empty()) RETURN_IF_ERROR(make());
  for (const std::optional<Outcome>& outcome : outcomes) {
    response.outcomes.emplace_back(NameOf(outcome.value_or(Outcome::kUnchanged)));
  }
  return response;
}

absl::StatusOr<admin::AwaitChangesCommand::Response> AwaitChanges(const UsersContext& context,
                                                                  const admin::AwaitChangesCommand::Request& request,
                                                                  const admin::Caller& caller) {
  const auto number = static_cast<int64_t>(request.number);
  Heard heard = AwaitAgents(context.keys, number, PatienceOf(request.waitSeconds), caller);
  // It may have been opened anew, on a server that has lost the change.
  ASSIGN_OR_RETURN(const int64_t newest, context.keys.ReadLastErasure());
  if (number > newest) {
    return absl::InvalidArgumentError(StrCat("the registry knows no change ", request.number, ": make it again"));
  }
  admin::AwaitChangesCommand::Response response;
  response.spread = std::move(heard.spread);
  if (heard.opening.has_value()) response.opening = OpeningOf(context.keys, *heard.opening);
  return response;
}

absl::StatusOr<ReadUserCommand::Response> ReadUser(const UsersContext& context, const ReadUserCommand::Request& request,
                                                   const admin::Caller&) {
  RETURN_IF_ERROR(CheckUser(request.user));
  ASSIGN_OR_RETURN(const std::vector<keys::KnownUser> known, context.keys.ReadUser(request.keyspace, request.user));
  ReadUserCommand::Response response;
  for (const keys::KnownUser& one : known) response.known.push_back(Told(one, absl::Now()));
  return response;
}

absl::StatusOr<admin::RereadCommand::Response> RereadConsents(const UsersContext& context,
                                                              const admin::RereadCommand::Request& request,
                                                              const admin::Caller& caller) {
  ASSIGN_OR_RETURN(keys::RereadAsked asked, context.keys.RereadSource(request.keyspace));
  log::Info("consents.rereadAsked", {{"keyspace", request.keyspace}, {"uid", caller.uid}});
  admin::RereadCommand::Response response;
  response.follower = std::move(asked.follower);
  response.isFollowed = asked.isFollowed;
  return response;
}

}  // namespace kveil::daemon
