// `kveil receipts replay`: a registry that was restored from a backup does not know who was erased since. The receipts
// do, by pseudonym. Those that are known already cost the agent a look, so an interrupted run is simply repeated.
#include <algorithm>
#include <iostream>
#include <map>
#include <set>

#include "admin/admin_client.h"
#include "admin/erase_again_command.h"
#include "admin/erase_many_command.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"
#include "cli/progress.h"
#include "evidence/small_file.h"
#include "receipts/store.h"

namespace kveil::cli {
namespace {

using admin::AwaitErasureCommand;
using admin::EraseAgainCommand;
using evidence::SigningKey;
using receipts::Store;

constexpr std::string_view kCommand = "receipts replay";
constexpr char kReason[] = "repeated from receipts";

// Of one registry, by keyspace.
struct Told {
  std::string registry;
  uint64_t receipts = 0;
  std::map<std::string, std::map<std::string, int64_t>> users;  // by pseudonym, the number of the last erasure
  size_t count() const {
    size_t sum = 0;
    for (const auto& [keyspace, pseudonyms] : users) sum += pseudonyms.size();
    return sum;
  }
};

absl::StatusOr<std::string> FolderOf(const CommonOptions& common, const ReceiptsOptions& options) {
  if (!options.folder.empty()) return options.folder;
  ASSIGN_OR_RETURN(const config::AgentConfig config, ReadConfig(common));
  return config::ReceiptsFolder(config.keys);
}

// Of this node, by its own key; of others, only by a key that was kept: a folder that was made up has a key of its own.
absl::StatusOr<SigningKey> ReadKey(const Store& store, const ReceiptsOptions& options) {
  if (!options.folder.empty() && options.publicKey.empty()) {
    return absl::InvalidArgumentError(
        "--folder needs --key: the public key of the agent whose receipts they are, as `kveil receipts key` printed it "
        "there");
  }
  ASSIGN_OR_RETURN(const std::string pem,
                   options.publicKey.empty() ? store.PublicPem() : evidence::ReadFile(options.publicKey));
  return SigningKey::FromPublicPem(pem);
}

// All receipts, if none of them is wrong. A folder that was used with several registries tells of the last one.
absl::StatusOr<Told> ReadAll(const Store& store, const SigningKey& key) {
  ASSIGN_OR_RETURN(const Store::Verification verification, store.VerifyAll(key));
  if (!verification.faults.empty()) {
    return absl::FailedPreconditionError(
        StrCat("they are not as they were written: ", verification.faults.front(), "; kveil receipts verify"));
  }
  Told told;
  for (uint64_t number = verification.count; number > 0; --number) {
    ASSIGN_OR_RETURN(receipts::ErasuresTold one, store.ReadErasures(key, number));
    if (told.registry.empty()) told.registry = one.registry;
    if (one.registry != told.registry) continue;
    ++told.receipts;
    for (receipts::ErasuresTold::Subject& subject : one.subjects) {
      int64_t& erasure = told.users[std::move(subject.keyspace)][std::move(subject.pseudonym)];
      erasure = std::max(erasure, one.erasure);
    }
  }
  return told;
}

struct Sum {
  uint64_t missing = 0, keys = 0, number = 0;
  std::vector<uint64_t> receipts;  // the first and the last
  std::optional<std::string> receiptError;
  std::set<std::string> openings;
};

void Add(const EraseAgainCommand::Response& piece, Sum& sum) {
  sum.missing += piece.missing;
  sum.keys += piece.keys;
  sum.number = std::max(sum.number, piece.number);
  sum.openings.insert(piece.opening);
  if (piece.receipt.error.has_value()) sum.receiptError = piece.receipt.error;
  if (!piece.receipt.number.has_value()) return;
  if (sum.receipts.size() == 2) sum.receipts.pop_back();
  sum.receipts.push_back(*piece.receipt.number);
}

absl::StatusOr<Sum> AskForAll(const std::string& socket, const Told& told, bool isDryRun) {
  Sum sum;
  Progress progress(std::max<size_t>(1, told.count()), "users");
  size_t done = 0;
  for (const auto& [keyspace, pseudonyms] : told.users) {
    for (auto next = pseudonyms.begin(); next != pseudonyms.end();) {
      EraseAgainCommand::Request piece{.registry = told.registry, .keyspace = keyspace, .isDryRun = isDryRun};
      piece.reason = kReason;
      while (next != pseudonyms.end() && piece.pseudonyms.size() < EraseAgainCommand::kMostUsers) {
        piece.pseudonyms.push_back(next->first);
        piece.erasures.push_back(static_cast<uint64_t>(next->second));
        ++next;
      }
      done += piece.pseudonyms.size();
      const auto answer = admin::Ask<EraseAgainCommand>(socket, piece);
      if (!answer.ok()) return answer.status();
      Add(answer->response, sum);
      progress.Show(done);
    }
  }
  return sum;
}

nlohmann::json JsonOf(const Told& told, const Sum& sum) {
  return {{"receipts", told.receipts}, {"users", told.count()}, {"missing", sum.missing}, {"keys", sum.keys}};
}

int Look(const CommonOptions& common, const Told& told, const Sum& sum) {
  if (common.json) {
    std::cout << JsonOf(told, sum).dump(2) << "\n";
  } else {
    std::cout << told.receipts << " receipt(s) tell of " << told.count() << " erased user(s); of " << sum.missing
              << ", the registry does not know that they were erased\n";
  }
  return 0;
}

}  // namespace

int RunReceiptsReplay(const CommonOptions& common, const ReceiptsOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const absl::StatusOr<std::string> folder = FolderOf(common, options);
  if (!folder.ok()) return Fail(kCommand, folder.status());
  const Store store(*folder);
  const absl::StatusOr<SigningKey> key = ReadKey(store, options);
  if (!key.ok()) return Fail(kCommand, key.status());
  const absl::StatusOr<Told> told = ReadAll(store, *key);
  if (!told.ok()) return Fail(kCommand, told.status());
  const absl::StatusOr<Sum> asked = AskForAll(*socket, *told, options.isDryRun);
  if (!asked.ok()) {
    return Fail(kCommand, StrCat(ToStd(asked.status().message()), "; run the same command again to go on"));
  }
  if (options.isDryRun) return Look(common, *told, *asked);
  const auto answer = admin::Ask<AwaitErasureCommand>(
      *socket, {.number = asked->number, .waitSeconds = options.waitSeconds, .reason = kReason},
      AnswerTime(options.waitSeconds));
  const bool isOpenedAnew = answer.ok() && answer->response.opening.has_value() && !asked->openings.empty() &&
                            asked->openings != std::set<std::string>{*answer->response.opening};
  if (!answer.ok() || isOpenedAnew) {
    return Fail(kCommand, StrCat("whether all agents have dropped the keys is not known: ",
                                 answer.ok() ? "the registry was opened anew, and may have lost erasures"
                                             : ToStd(answer.status().message()),
                                 "; run the same command again"));
  }
  const admin::Spread& spread = answer->response.spread;
  if (common.json) {
    nlohmann::json json = JsonOf(*told, *asked);
    json["spread"] = admin::ToJson(spread);
    json["written"] = asked->receipts;
    std::cout << json.dump(2) << "\n";
  } else {
    std::cout << told->receipts << " receipt(s) tell of " << told->count() << " erased user(s); " << asked->missing
              << " had to be erased again, " << asked->keys << " key(s) destroyed\n";
    PrintAgents(spread);
    PrintReceipts(asked->receipts);
  }
  const std::optional<std::string>& unwritten = answer->response.receipt.error;
  return EndErasure(spread, unwritten.has_value() ? unwritten : asked->receiptError);
}

}  // namespace kveil::cli
