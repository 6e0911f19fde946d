// `kveil erase --users-from`: the agent gets the list in pieces. Whoever is erased already costs it a look, so an
// interrupted run is simply repeated.
#include <algorithm>
#include <iostream>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "admin/admin_client.h"
#include "admin/erase_many_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"
#include "cli/progress.h"
#include "cli/users_file.h"

namespace kveil::cli {
namespace {

using admin::AwaitErasureCommand;
using admin::EraseManyCommand;

// A request holds 64 KiB. In JSON, a byte may take six.
constexpr size_t kMostBytesOfAPiece = 8 << 10;
// How often the whole list is asked for, as the registry was opened anew in between.
constexpr int kMostRounds = 4;
constexpr size_t kMostLinesNamed = 10;

struct Sum {
  size_t erased = 0, erasedBefore = 0, noKey = 0;
  size_t erasedAgain = 0;  // as the registry had lost the erasures
  uint64_t keys = 0, number = 0;
  bool filesClean = true;
  ReceiptRange receipts;
  std::vector<size_t> linesWithoutKey;  // the first of them
};

// The end of the piece that begins with element `first` and has at most `most` users.
size_t EndOfPiece(const std::vector<std::string>& users, size_t first, size_t most) {
  size_t end = first;
  for (size_t bytes = 0; end < users.size() && end - first < most; ++end) {
    bytes += users[end].size();
    if (end > first && bytes > kMostBytesOfAPiece) break;
  }
  return end;
}

// Has one piece erased after the other.
class Pieces {
 public:
  Pieces(std::string socket, const std::vector<std::string>& users, const EraseOptions& options)
      : socket_(std::move(socket)), users_(users), options_(options) {}

  // The piece that begins with element `first`.
  absl::StatusOr<EraseManyCommand::Response> Erase(size_t first) {
    for (;;) {
      const size_t end = EndOfPiece(users_, first, size_.now());
      auto answer = admin::Ask<EraseManyCommand>(
          socket_, {{users_.begin() + first, users_.begin() + end}, options_.keyspace, options_.reason});
      if (answer.ok()) return Took(std::move(answer->response), end - first);
      if (!absl::IsUnavailable(answer.status()) || !size_.MayAskAgain(end - first)) return answer.status();
    }
  }

 private:
  absl::StatusOr<EraseManyCommand::Response> Took(EraseManyCommand::Response response, size_t size) {
    if (response.outcomes.size() != size) {
      return absl::InternalError("the agent's answer is not about the users that it was asked for");
    }
    size_.Worked();
    return response;
  }

  const std::string socket_;
  const std::vector<std::string>& users_;
  const EraseOptions& options_;
  RequestSize size_{EraseManyCommand::kMostUsers};
};

void Add(const EraseManyCommand::Response& piece, size_t firstLine, bool isAgain, Sum& sum) {
  sum.receipts.Add(piece.receipt);
  sum.keys += piece.keys;
  sum.number = std::max(sum.number, piece.number);
  sum.filesClean &= piece.filesClean;
  for (size_t i = 0; i < piece.outcomes.size(); ++i) {
    const std::string& outcome = piece.outcomes[i];
    if (isAgain) {
      if (outcome == EraseManyCommand::kErased) ++sum.erasedAgain;
    } else if (outcome == EraseManyCommand::kErased) {
      ++sum.erased;
    } else if (outcome == EraseManyCommand::kErasedBefore) {
      ++sum.erasedBefore;
    } else {
      ++sum.noKey;
      if (sum.linesWithoutKey.size() < kMostLinesNamed) sum.linesWithoutKey.push_back(firstLine + i);
    }
  }
}

void Print(const Sum& sum, int rounds, const admin::Spread& spread) {
  std::cout << sum.erased << " user(s) erased, " << sum.keys << " key(s) destroyed; " << sum.erasedBefore
            << " user(s) were erased before; " << sum.noKey << " user(s) have no key\n";
  if (sum.noKey > 0) {
    std::cout << "no key:";
    for (const size_t line : sum.linesWithoutKey) std::cout << " line " << line;
    std::cout << (sum.noKey > sum.linesWithoutKey.size() ? " and more\n" : "\n");
  }
  if (rounds > 1) {
    std::cout
        << "The registry was opened anew meanwhile, perhaps on another server, and was asked for all of them again: "
        << sum.erasedAgain << " user(s) had to be erased again\n";
  }
  PrintAgents(spread);
  if (spread.complete) {
    std::cout << "Every record of these users is unreadable from now on, also in replicas, mirrors and backups of "
                 "Kafka.\n";
  }
  std::cout << "Copies of the registry from before still hold the wrapped key(s): destroy them, too.\n";
  if (!sum.filesClean) std::cout << "The registry's own files still hold some of them: see docs/security.md.\n";
  PrintReceipts(sum.receipts.numbers);
}

void PrintJson(const Sum& sum, int rounds, const admin::Spread& spread) {
  nlohmann::json json = {{"erased", sum.erased},
                         {"erasedBefore", sum.erasedBefore},
                         {"noKey", sum.noKey},
                         {"keys", sum.keys},
                         {"filesClean", sum.filesClean},
                         {"askedAgain", rounds - 1},
                         {"erasedAgain", sum.erasedAgain}};
  json["spread"] = admin::ToJson(spread);
  json["receipts"] = sum.receipts.numbers;
  if (sum.receipts.error.has_value()) json["receiptError"] = *sum.receipts.error;
  std::cout << json.dump(2) << "\n";
}

// The openings of the registry that have answered. One that ended in between may have lost what it was told.
using Openings = std::set<std::optional<std::string>>;

// All of the list, once. kCancelled says how far it came.
absl::StatusOr<Openings> EraseAll(Pieces& pieces, size_t count, bool isAgain, Sum& sum) {
  Openings openings;
  Progress progress(count, "users");
  for (size_t first = 0; first < count;) {
    const absl::StatusOr<EraseManyCommand::Response> piece = pieces.Erase(first);
    if (!piece.ok()) {
      return absl::CancelledError(StrCat("stopped after line ", first, " of ", count, ": ",
                                         ToStd(piece.status().message()), "; run the same command again to go on"));
    }
    Add(*piece, first + 1, isAgain, sum);
    openings.insert(piece->opening);
    progress.Show(first += piece->outcomes.size());
  }
  return openings;
}

// Whether the registry may have lost some of the erasures: it was opened anew since, or does not know the last one.
bool MayBeLost(const Openings& openings, const absl::StatusOr<admin::Answer<AwaitErasureCommand>>& answer) {
  if (!answer.ok()) return absl::IsInvalidArgument(answer.status());
  const std::optional<std::string>& now = answer->response.opening;
  return now.has_value() && openings != Openings{now};
}

}  // namespace

int EraseMany(const std::string& socket, bool json, const EraseOptions& options) {
  const absl::StatusOr<std::vector<std::string>> users = ReadUsersFile(options.usersFrom, options.encoding);
  if (!users.ok()) return Fail("erase", users.status());
  Pieces pieces(socket, *users, options);
  Sum sum;
  for (int round = 1;; ++round) {
    sum.number = 0;
    const absl::StatusOr<Openings> openings = EraseAll(pieces, users->size(), /*isAgain=*/round > 1, sum);
    if (!openings.ok()) return Fail("erase", openings.status());
    const auto answer = admin::Ask<AwaitErasureCommand>(
        socket, {.number = sum.number, .waitSeconds = options.waitSeconds, .reason = options.reason},
        AnswerTime(options.waitSeconds));
    const bool mayBeLost = MayBeLost(*openings, answer);
    if (mayBeLost && round < kMostRounds) continue;
    if (!answer.ok() || mayBeLost) {
      return Fail("erase", StrCat("all were erased, but whether all agents have dropped the keys is not known: ",
                                  mayBeLost ? "the registry was opened anew again and again, and may have lost erasures"
                                            : ToStd(answer.status().message()),
                                  "; run the same command again"));
    }
    const admin::Spread& spread = answer->response.spread;
    sum.receipts.Add(answer->response.receipt);
    if (json) {
      PrintJson(sum, round, spread);
    } else {
      Print(sum, round, spread);
    }
    return EndErasure(spread, sum.receipts.error);
  }
}

}  // namespace kveil::cli
