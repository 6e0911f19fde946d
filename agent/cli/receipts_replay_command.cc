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
#include "cli/reading_receipts.h"
#include "receipts/store.h"

namespace kveil::cli {
namespace {

using admin::AwaitErasureCommand;
using admin::EraseAgainCommand;
using evidence::SigningKey;
using receipts::Store;

constexpr std::string_view kCommand = "receipts replay";
constexpr char kReason[] = "repeated from receipts";

// Of the agent's registry, by keyspace.
struct Told {
  std::string registry;
  uint64_t receipts = 0;
  std::map<std::string, std::map<std::string, int64_t>> users = {};  // by pseudonym, the number of the last erasure
  std::vector<std::string> faults = {};                              // of the receipts
  size_t count() const {
    size_t sum = 0;
    for (const auto& [keyspace, pseudonyms] : users) sum += pseudonyms.size();
    return sum;
  }
};

// Of this node, by its own key; of others, only by a key that was kept: a folder that was made up has a key of its own.
absl::Status CheckKey(const ReceiptsOptions& options) {
  if (options.folder.empty() || !options.publicKey.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--folder needs --key: the public key of the agent whose receipts they are, as `kveil receipts key` printed it "
      "there");
}

// The id of the registry that the agent uses.
absl::StatusOr<std::string> AskForRegistry(const std::string& socket) {
  const auto answer = admin::Ask<EraseAgainCommand>(socket, {.registry = "", .keyspace = "", .isDryRun = true});
  if (!answer.ok()) return answer.status();
  return answer->response.registry;
}

// What all receipts of a registry tell that the key has signed. Each stands for itself: whoever has changed or removed
// one has not made the others untrue, and those that they tell of can be read until they are erased again.
absl::StatusOr<Told> ReadAll(const Store& store, const SigningKey& key, std::string registry) {
  Told told{.registry = std::move(registry)};
  ASSIGN_OR_RETURN(Store::Verification verification, store.VerifyAll(key));
  told.faults = std::move(verification.faults);
  for (const uint64_t number : store.ReadNumbers()) {
    absl::StatusOr<receipts::ErasuresTold> one = store.ReadErasures(key, number);
    if (!one.ok() && told.faults.empty()) told.faults.emplace_back(one.status().message());
    if (!one.ok() || one->registry != told.registry) continue;
    ++told.receipts;
    for (receipts::ErasuresTold::Subject& subject : one->subjects) {
      int64_t& erasure = told.users[std::move(subject.keyspace)][std::move(subject.pseudonym)];
      erasure = std::max(erasure, one->erasure);
    }
  }
  return told;
}

struct Sum {
  uint64_t missing = 0, keys = 0, refused = 0, number = 0;
  bool filesClean = true;
  ReceiptRange receipts;
  std::set<std::string> openings;
};

void Add(const EraseAgainCommand::Response& piece, Sum& sum) {
  sum.missing += piece.missing;
  sum.keys += piece.keys;
  sum.refused += piece.refused;
  sum.number = std::max(sum.number, piece.number);
  sum.filesClean &= piece.filesClean;
  sum.openings.insert(piece.opening);
  sum.receipts.Add(piece.receipt);
}

absl::StatusOr<Sum> AskForAll(const std::string& socket, const Told& told, bool isDryRun) {
  Sum sum;
  Progress progress(std::max<size_t>(1, told.count()), "users");
  RequestSize size(EraseAgainCommand::kMostUsers);
  size_t done = 0;
  for (const auto& [keyspace, pseudonyms] : told.users) {
    for (auto first = pseudonyms.begin(); first != pseudonyms.end();) {
      EraseAgainCommand::Request piece{.registry = told.registry, .keyspace = keyspace, .isDryRun = isDryRun};
      piece.reason = kReason;
      auto next = first;
      for (; next != pseudonyms.end() && piece.pseudonyms.size() < size.now(); ++next) {
        piece.pseudonyms.push_back(next->first);
        piece.erasures.push_back(static_cast<uint64_t>(next->second));
      }
      const auto answer = admin::Ask<EraseAgainCommand>(socket, piece);
      if (absl::IsUnavailable(answer.status()) && size.MayAskAgain(piece.pseudonyms.size())) continue;
      if (!answer.ok()) return answer.status();
      size.Worked();
      Add(answer->response, sum);
      first = next;
      progress.Show(done += piece.pseudonyms.size());
    }
  }
  return sum;
}

nlohmann::json JsonOf(const Told& told, const Sum& sum) {
  return {{"receipts", told.receipts},    {"users", told.count()}, {"missing", sum.missing}, {"keys", sum.keys},
          {"filesClean", sum.filesClean}, {"faults", told.faults}, {"refused", sum.refused}};
}

// The exit status, after a line on stderr for each receipt that could not be used.
int EndReplay(const Told& told, int status) {
  if (told.faults.empty()) return status;
  for (const std::string& fault : told.faults) Fail(kCommand, fault);
  Fail(kCommand, "so there may be erasures that are not repeated: kveil receipts verify");
  return status == 0 ? 1 : status;
}

int Look(const CommonOptions& common, const Told& told, const Sum& sum) {
  if (common.json) {
    std::cout << JsonOf(told, sum).dump(2) << "\n";
  } else {
    std::cout << told.receipts << " receipt(s) tell of " << told.count() << " erased user(s); of " << sum.missing
              << ", the registry does not know that they were erased\n";
  }
  return EndReplay(told, 0);
}

}  // namespace

int RunReceiptsReplay(const CommonOptions& common, const ReceiptsOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const absl::StatusOr<Store> store = OpenStore(common, options);
  if (!store.ok()) return Fail(kCommand, store.status());
  if (const absl::Status may = CheckKey(options); !may.ok()) return Fail(kCommand, may);
  const absl::StatusOr<SigningKey> key = ReadKey(*store, options);
  if (!key.ok()) return Fail(kCommand, key.status());
  absl::StatusOr<std::string> registry = AskForRegistry(*socket);
  if (!registry.ok()) return Fail(kCommand, registry.status());
  const absl::StatusOr<Told> told = ReadAll(*store, *key, *std::move(registry));
  if (!told.ok()) return Fail(kCommand, told.status());
  if (told->receipts == 0 && !told->faults.empty()) {
    return Fail(kCommand,
                StrCat("no receipt of this registry can be used: ", told->faults.front(), "; kveil receipts verify"));
  }
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
    json["written"] = asked->receipts.numbers;
    std::cout << json.dump(2) << "\n";
  } else {
    std::cout << told->receipts << " receipt(s) tell of " << told->count() << " erased user(s); " << asked->missing
              << " had to be erased again, " << asked->keys << " key(s) destroyed\n";
    PrintAgents(spread);
    if (!asked->filesClean)
      std::cout << "The registry's own files still hold some of the keys: see docs/security.md.\n";
    PrintReceipts(asked->receipts.numbers);
  }
  if (asked->refused > 0) {
    Fail(kCommand,
         StrCat("the registry has no key of ", asked->refused,
                " of these users, and remembers as many erasures without a key as it may: if one of them gets "
                "a key, run this again"));
  }
  const std::optional<std::string>& unwritten = answer->response.receipt.error;
  const int status = EndReplay(*told, EndErasure(spread, unwritten.has_value() ? unwritten : asked->receipts.error));
  return status == 0 && asked->refused > 0 ? 1 : status;
}

}  // namespace kveil::cli
