// What the agent does when it is asked about epochs.
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/time_text.h"
#include "crypto/key_id.h"
#include "daemon/commands/commands.h"
#include "daemon/commands/receipt_writing.h"
#include "receipts/receipt.h"

namespace kveil::daemon {
namespace {

using admin::GiveUpKeyCommand;
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
  for (const crypto::KeyId& id : epochs.unreadable) response.unreadable.push_back(crypto::TextOf(id));
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
  TurnEpochsCommand::Response response{.ending = static_cast<uint64_t>(ending)};
  const std::string waits = keys.epochNow().waits;
  if (!waits.empty()) response.waits = waits;
  return response;
}

absl::StatusOr<GiveUpKeyCommand::Response> GiveUpKey(keys::KeyService& keys, const receipts::Store& receipts,
                                                     const GiveUpKeyCommand::Request& request,
                                                     const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason, "no key was given up"));
  const std::optional<crypto::KeyId> id = crypto::ParseKeyId(request.key);
  if (!id.has_value()) return absl::InvalidArgumentError("a key's id has 32 hexadecimal digits");
  ASSIGN_OR_RETURN(const keys::KeyService::GivenUp givenUp, keys.GiveUpKey(*id));
  log::Warning("keys.epochs.keyGivenUp", {{"key", request.key}, {"uid", caller.uid}});
  receipts::Receipt receipt =
      BeginReceipt(receipts::Receipt::Kind::kGivenUp, keys, caller, request.reason, absl::Now());
  receipt.key = {crypto::TextOf(*id), std::string(keys::NameOf(givenUp.scope)), givenUp.epoch};
  GiveUpKeyCommand::Response response;
  response.scope = receipt.key->scope;
  response.receipt = WriteReceipt(receipts, receipt);
  return response;
}

}  // namespace kveil::daemon
