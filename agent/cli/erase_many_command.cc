// `kveil erase --users-from`: the agent gets the list in pieces. Whoever is erased already costs it a look, so an
// interrupted run is simply repeated.
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "admin/admin_client.h"
#include "admin/erase_many_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"
#include "cli/users_file.h"

namespace kveil::cli {
namespace {

using admin::AwaitErasureCommand;
using admin::EraseManyCommand;

// A request holds 64 KiB. In JSON, a byte may take six.
constexpr size_t kMostBytesOfAPiece = 8 << 10;
// A registry that is restarted, or whose lock is held, is asked again.
constexpr int kMostAttempts = 10;
constexpr std::chrono::seconds kBetweenAttempts{1};
constexpr size_t kMostLinesNamed = 10;

// On a terminal only.
class Progress {
 public:
  explicit Progress(size_t all) : all_(all), isShown_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (isShown_) std::cerr << "\r\033[K" << std::flush;
  }
  void Show(size_t done) {
    constexpr size_t kWidth = 40;
    const size_t percent = done * 100 / all_;
    if (!isShown_ || percent == percent_) return;
    percent_ = percent;
    const size_t full = done * kWidth / all_;
    std::cerr << "\r[" << std::string(full, '#') << std::string(kWidth - full, ' ') << "] " << percent << " %, " << done
              << " of " << all_ << " users" << std::flush;
  }

 private:
  const size_t all_;
  const bool isShown_;
  size_t percent_ = 101;
};

struct Sum {
  size_t erased = 0, erasedBefore = 0, noKey = 0;
  uint64_t keys = 0, number = 0;
  bool filesClean = true;
  std::vector<uint64_t> receipts;           // the first and the last
  std::optional<std::string> receiptError;  // of the last that was not written
  std::vector<size_t> linesWithoutKey;      // the first of them
};

// The end of the piece that begins with element `first`.
size_t EndOfPiece(const std::vector<std::string>& users, size_t first) {
  size_t end = first;
  for (size_t bytes = 0; end < users.size() && end - first < EraseManyCommand::kMostUsers; ++end) {
    bytes += users[end].size();
    if (end > first && bytes > kMostBytesOfAPiece) break;
  }
  return end;
}

absl::StatusOr<EraseManyCommand::Response> ErasePiece(const std::string& socket,
                                                      const EraseManyCommand::Request& request) {
  for (int attempt = 1;; ++attempt) {
    auto answer = admin::Ask<EraseManyCommand>(socket, request);
    if (answer.ok() && answer->response.outcomes.size() != request.users.size()) {
      return absl::InternalError("the agent's answer is not about the users that it was asked for");
    }
    if (answer.ok()) return std::move(answer->response);
    if (!absl::IsUnavailable(answer.status()) || attempt == kMostAttempts) return answer.status();
    std::this_thread::sleep_for(kBetweenAttempts);
  }
}

void AddReceipt(const admin::ReceiptNote& receipt, Sum& sum) {
  if (receipt.error.has_value()) sum.receiptError = receipt.error;
  if (!receipt.number.has_value()) return;
  if (sum.receipts.size() == 2) sum.receipts.pop_back();
  sum.receipts.push_back(*receipt.number);
}

void Add(const EraseManyCommand::Response& piece, size_t firstLine, Sum& sum) {
  AddReceipt(piece.receipt, sum);
  for (size_t i = 0; i < piece.outcomes.size(); ++i) {
    const std::string& outcome = piece.outcomes[i];
    if (outcome == EraseManyCommand::kErased) {
      ++sum.erased;
    } else if (outcome == EraseManyCommand::kErasedBefore) {
      ++sum.erasedBefore;
    } else {
      ++sum.noKey;
      if (sum.linesWithoutKey.size() < kMostLinesNamed) sum.linesWithoutKey.push_back(firstLine + i);
    }
  }
  sum.keys += piece.keys;
  sum.number = std::max(sum.number, piece.number);
  sum.filesClean &= piece.filesClean;
}

void Print(const Sum& sum, const admin::Spread& spread) {
  std::cout << sum.erased << " user(s) erased, " << sum.keys << " key(s) destroyed; " << sum.erasedBefore
            << " user(s) were erased before; " << sum.noKey << " user(s) have no key\n";
  if (sum.noKey > 0) {
    std::cout << "no key:";
    for (const size_t line : sum.linesWithoutKey) std::cout << " line " << line;
    std::cout << (sum.noKey > sum.linesWithoutKey.size() ? " and more\n" : "\n");
  }
  PrintAgents(spread);
  if (spread.complete) {
    std::cout << "Every record of these users is unreadable from now on, also in replicas, mirrors and backups of "
                 "Kafka.\n";
  }
  std::cout << "Copies of the registry from before still hold the wrapped key(s): destroy them, too.\n";
  if (!sum.filesClean) std::cout << "The registry's own files still hold some of them: see docs/security.md.\n";
  if (!sum.receipts.empty()) {
    std::cout << "receipts " << sum.receipts.front() << " to " << sum.receipts.back() << " (kveil receipts show)\n";
  }
}

void PrintJson(const Sum& sum, const admin::Spread& spread) {
  nlohmann::json json = {{"erased", sum.erased},
                         {"erasedBefore", sum.erasedBefore},
                         {"noKey", sum.noKey},
                         {"keys", sum.keys},
                         {"filesClean", sum.filesClean}};
  json["spread"] = admin::ToJson(spread);
  json["receipts"] = sum.receipts;
  if (sum.receiptError.has_value()) json["receiptError"] = *sum.receiptError;
  std::cout << json.dump(2) << "\n";
}

}  // namespace

int EraseMany(const config::AgentConfig& config, bool json, const EraseOptions& options) {
  const absl::StatusOr<std::vector<std::string>> users = ReadUsersFile(options.usersFrom, options.encoding);
  if (!users.ok()) return Fail("erase", users.status());
  Sum sum;
  {
    Progress progress(users->size());
    for (size_t first = 0; first < users->size();) {
      const size_t end = EndOfPiece(*users, first);
      EraseManyCommand::Request request{
          {users->begin() + first, users->begin() + end}, options.keyspace, options.reason};
      const absl::StatusOr<EraseManyCommand::Response> piece = ErasePiece(config.admin.socket, request);
      if (!piece.ok()) {
        return Fail("erase", StrCat("stopped after line ", first, " of ", users->size(), ": ",
                                    ToStd(piece.status().message()), "; run the same command again to go on"));
      }
      Add(*piece, first + 1, sum);
      progress.Show(first = end);
    }
  }
  const auto answer = admin::Ask<AwaitErasureCommand>(
      config.admin.socket, {.number = sum.number, .waitSeconds = options.waitSeconds, .reason = options.reason},
      AnswerTime(options.waitSeconds));
  if (!answer.ok()) {
    return Fail("erase", StrCat("all were erased, but whether all agents have dropped the keys is not known: ",
                                ToStd(answer.status().message()), "; run the same command again"));
  }
  const admin::Spread& spread = answer->response.spread;
  AddReceipt(answer->response.receipt, sum);
  if (json) {
    PrintJson(sum, spread);
  } else {
    Print(sum, spread);
  }
  return EndErasure(spread, sum.receiptError);
}

}  // namespace kveil::cli
