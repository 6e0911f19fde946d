// `kveil epochs`: which epoch keys there are, and having another take the place of the one in use.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "admin/admin_client.h"
#include "admin/epochs_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"

namespace kveil::cli {
namespace {

using admin::ListEpochsCommand;

constexpr int kUnderWay = 3;  // as of `kveil erase`: begun, and not done yet

constexpr std::chrono::seconds kPollPause{1};

// Whether all before the newest epoch are destroyed, and `ending` is one of them.
bool HasEnded(const ListEpochsCommand::Response& response, uint64_t ending) {
  for (const ListEpochsCommand::Epoch& epoch : response.epochs) {
    if (epoch.state == "coming" || epoch.state == "ending") return false;
  }
  return !response.epochs.empty() && response.epochs.back().number > ending;
}

void Print(const ListEpochsCommand::Response& response) {
  for (const ListEpochsCommand::Epoch& epoch : response.epochs) {
    std::cout << epoch.number << "  " << epoch.made << "  ";
    if (epoch.state == "destroyed") {
      std::cout << "destroyed " << epoch.destroyed.value_or("?") << "\n";
      continue;
    }
    const char* const what = epoch.state == "inUse"    ? "in use"
                             : epoch.state == "coming" ? "coming: agents get its key"
                                                       : "ending: its keys move to the next";
    std::cout << what << "  " << (response.allCounted ? "" : "more than ") << epoch.keys << " key(s)\n";
  }
  if (!response.oldCopies.empty()) std::cout << "old copies of the registry " << response.oldCopies << "\n";
  if (!response.note.empty()) std::cout << "NOTE " << response.note << "\n";
}

}  // namespace

int RunEpochsList(const CommonOptions& common) {
  constexpr std::string_view kCommand = "epochs list";
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const auto answer = admin::Ask<ListEpochsCommand>(*socket, {});
  if (!answer.ok()) return Fail(kCommand, answer.status());
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    Print(answer->response);
  }
  return answer->response.problem.empty() ? 0 : Fail(kCommand, answer->response.problem);
}

int RunEpochsTurn(const CommonOptions& common, std::optional<uint64_t> waitSeconds) {
  constexpr std::string_view kCommand = "epochs turn";
  const auto giveUp = std::chrono::steady_clock::now() + std::chrono::seconds(waitSeconds.value_or(0));
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const auto begun = admin::Ask<admin::TurnEpochsCommand>(*socket, {});
  if (!begun.ok()) return Fail(kCommand, begun.status());
  const uint64_t ending = begun->response.ending;
  if (!waitSeconds.has_value()) {
    if (common.json) {
      std::cout << begun->json.dump(2) << "\n";
    } else if (!begun->response.waits.has_value()) {
      std::cout << "epoch " << ending << " ends; its keys move to the next one in the background: kveil epochs list\n";
    }
    if (!begun->response.waits.has_value()) return 0;
    (void)Fail(kCommand, StrCat("the turn has not begun, and begins by itself when it can: ", *begun->response.waits));
    return kUnderWay;
  }
  for (;;) {
    // One that fails is of an agent that is busy, or restarts.
    const auto poll = admin::Ask<ListEpochsCommand>(*socket, {.keys = false});
    if (poll.ok() && HasEnded(poll->response, ending)) break;
    const auto now = std::chrono::steady_clock::now();
    if (now >= giveUp) break;
    std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(kPollPause, giveUp - now));
  }
  const auto answer = admin::Ask<ListEpochsCommand>(*socket, {});
  if (!answer.ok()) return Fail(kCommand, answer.status());
  const ListEpochsCommand::Response& response = answer->response;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    Print(response);
  }
  if (HasEnded(response, ending)) return 0;
  (void)Fail(kCommand, !response.problem.empty() ? response.problem
                       : !response.note.empty()  ? response.note
                                                 : std::string("the turn is still under way; it goes on"));
  return kUnderWay;
}

int RunEpochsGiveUp(const CommonOptions& common, const GiveUpOptions& options) {
  constexpr std::string_view kCommand = "epochs give-up";
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const auto answer = admin::Ask<admin::GiveUpKeyCommand>(*socket, {.key = options.key, .reason = options.reason});
  if (!answer.ok()) return Fail(kCommand, answer.status());
  const admin::GiveUpKeyCommand::Response& response = answer->response;
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    std::cout << "the key of a " << response.scope << " is given up; what was sealed with it opens never again\n";
    if (response.receipt.number.has_value()) PrintReceipts({*response.receipt.number});
  }
  if (!response.receipt.error.has_value()) return 0;
  (void)Fail(kCommand, StrCat("given up, but there is no receipt: ", *response.receipt.error));
  return kNoReceipt;
}

}  // namespace kveil::cli
