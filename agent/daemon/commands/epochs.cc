// What the agent does when it is asked about epochs.
#include "base/log.h"
#include "base/status_macros.h"
#include "base/time_text.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

using admin::ListEpochsCommand;
using admin::TurnEpochsCommand;

const char* NameOf(keys::KeyService::EpochState state) {
  switch (state) {
    case keys::KeyService::EpochState::kComing:
      return "coming";
    case keys::KeyService::EpochState::kInUse:
      return "inUse";
    case keys::KeyService::EpochState::kEnding:
      return "ending";
    case keys::KeyService::EpochState::kDestroyed:
      break;
  }
  return "destroyed";
}

}  // namespace

absl::StatusOr<ListEpochsCommand::Response> ListEpochs(keys::KeyService& keys, bool withKeys) {
  ASSIGN_OR_RETURN(const keys::KeyService::Epochs epochs, keys.ListEpochs(withKeys));
  ListEpochsCommand::Response response;
  response.allCounted = epochs.isAll;
  response.problem = epochs.problem;
  response.note = epochs.note;
  response.oldCopies = epochs.oldCopies;
  for (const keys::KeyService::EpochInfo& epoch : epochs.epochs) {
    ListEpochsCommand::Epoch& one = response.epochs.emplace_back();
    one.number = static_cast<uint64_t>(epoch.number);
    one.state = NameOf(epoch.state);
    one.made = UtcText(epoch.made);
    if (epoch.destroyed.has_value()) one.destroyed = UtcText(*epoch.destroyed);
    one.keys = epoch.keys;
  }
  return response;
}

absl::StatusOr<TurnEpochsCommand::Response> TurnEpochs(keys::KeyService& keys, const admin::Caller& caller) {
  ASSIGN_OR_RETURN(const int64_t ending, keys.TurnEpochs());
  log::Info("keys.epochs.asked", {{"ending", ending}, {"uid", caller.uid}});
  return TurnEpochsCommand::Response{static_cast<uint64_t>(ending)};
}

}  // namespace kveil::daemon
