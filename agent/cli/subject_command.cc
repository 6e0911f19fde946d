// `kveil subject report`: what a person who asks may be told of.
#include <algorithm>
#include <iostream>

#include "admin/admin_client.h"
#include "admin/user_commands.h"
#include "base/text.h"
#include "cli/audit_trails.h"
#include "cli/changing_users.h"
#include "cli/common.h"
#include "cli/erasing.h"
#include "cli/plain.h"
#include "receipts/store.h"

namespace kveil::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kCommand = "subject report";

// A receipt of an erasure that has one of the pseudonyms.
struct Erasure {
  uint64_t number = 0;
  std::string time, reason;
  std::vector<std::string> keyspaces;
};

std::optional<Erasure> ErasureIn(const Json& receipt, const std::vector<AuditScope::Pseudonym>& pseudonyms) {
  const auto users = receipt.find("users");
  if (users == receipt.end() || !users->is_array()) return std::nullopt;
  Erasure erasure;
  for (const Json& user : *users) {
    const Json keyspaces = user.value("keyspaces", Json::array());
    for (const Json& keyspace : keyspaces) {
      const std::string pseudonym = keyspace.value("pseudonym", "");
      const bool isMeant = std::any_of(pseudonyms.begin(), pseudonyms.end(),
                                       [&](const auto& one) { return one.pseudonym == pseudonym; });
      if (isMeant) erasure.keyspaces.push_back(keyspace.value("keyspace", "?"));
    }
  }
  if (erasure.keyspaces.empty()) return std::nullopt;
  erasure.time = receipt.value("time", "?");
  erasure.reason = receipt.value("reason", "");
  return erasure;
}

// Those that this node has written.
absl::StatusOr<std::vector<Erasure>> ErasuresOf(const CommonOptions& common,
                                                const std::vector<AuditScope::Pseudonym>& pseudonyms) {
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return config.status();
  const receipts::Store store(config::ReceiptsFolder(config->keys));
  const absl::StatusOr<uint64_t> count = store.ReadCount();
  if (!count.ok()) return count.status();
  // That there is none is only said where there is nothing.
  const absl::StatusOr<std::string> pem = store.PublicPem();
  if (absl::IsNotFound(pem.status()) && *count == 0) return std::vector<Erasure>();
  if (!pem.ok()) return pem.status();
  const absl::StatusOr<evidence::SigningKey> key = evidence::SigningKey::FromPublicPem(*pem);
  if (!key.ok()) return key.status();
  const absl::StatusOr<receipts::Store::Verification> verified = store.VerifyAll(*key);
  if (!verified.ok()) return verified.status();
  if (!verified->faults.empty()) {
    return absl::DataLossError(
        StrCat("the receipts are not as they were written: kveil receipts verify: ", Plain(verified->faults.front())));
  }
  std::vector<Erasure> erasures;
  for (uint64_t number = 1; number <= *count; ++number) {
    const absl::StatusOr<receipts::Store::Stored> stored = store.Read(number);
    if (!stored.ok()) return stored.status();
    const Json receipt = Json::parse(stored->text, nullptr, /*allow_exceptions=*/false);
    if (!receipt.is_object()) return absl::DataLossError(StrCat("receipt ", number, " is damaged"));
    std::optional<Erasure> erasure = ErasureIn(receipt, pseudonyms);
    if (!erasure.has_value()) continue;
    erasure->number = number;
    erasures.push_back(*std::move(erasure));
  }
  return erasures;
}

struct Trail {
  std::string folder;
  audit::Answer answer;
};

void Print(const AuditScope& scope, const std::vector<Erasure>& erasures, const std::vector<Trail>& trails) {
  std::cout << "pseudonyms (in receipts and audit trails):\n";
  for (const AuditScope::Pseudonym& one : scope.pseudonyms) {
    std::cout << "  keyspace " << Plain(one.keyspace) << ": " << one.pseudonym << "\n";
  }
  std::cout << "receipts of erasures on this node:\n";
  for (const Erasure& erasure : erasures) {
    std::cout << "  " << erasure.number << "  " << erasure.time << (erasure.reason.empty() ? "" : "  ")
              << Plain(erasure.reason) << "\n";
  }
  if (erasures.empty()) std::cout << "  none\n";
  for (const Trail& trail : trails) PrintAnswer(trail.folder, trail.answer, /*isOfUser=*/true);
  if (trails.empty()) std::cout << "NOT KNOWN who wrote and read: this agent keeps no audit trail\n";
}

Json JsonOf(const Json& known, const AuditScope& scope, const std::vector<Erasure>& erasures,
            const std::vector<Trail>& trails) {
  Json pseudonyms = Json::array(), receipts = Json::array(), answers = Json::array();
  for (const AuditScope::Pseudonym& one : scope.pseudonyms) {
    pseudonyms.push_back({{"keyspace", one.keyspace}, {"pseudonym", one.pseudonym}});
  }
  for (const Erasure& erasure : erasures) {
    receipts.push_back({{"number", erasure.number},
                        {"time", erasure.time},
                        {"reason", erasure.reason},
                        {"keyspaces", erasure.keyspaces}});
  }
  for (const Trail& trail : trails) answers.push_back(cli::JsonOf(trail.folder, trail.answer));
  return {{"known", known},
          {"pseudonyms", std::move(pseudonyms)},
          {"receipts", std::move(receipts)},
          {"trails", std::move(answers)}};
}

}  // namespace

int RunSubjectReport(const CommonOptions& common, const AuditOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  const absl::StatusOr<AuditScope> scope = FindAudit(kCommand, common, options);
  if (!scope.ok()) return Fail(kCommand, scope.status());
  const absl::StatusOr<std::vector<Erasure>> erasures = ErasuresOf(common, scope->pseudonyms);
  if (!erasures.ok()) return Fail(kCommand, erasures.status());
  audit::Query query;
  query.pseudonyms.emplace();
  query.registry = scope->registry;
  for (const AuditScope::Pseudonym& one : scope->pseudonyms) query.pseudonyms->push_back(one.pseudonym);
  std::vector<Trail> trails;
  bool areWhole = true;
  for (const std::string& folder : scope->folders) {
    const absl::StatusOr<evidence::SigningKey> key = audit::ReadPublicKey(folder, "");
    if (!key.ok()) return Fail(kCommand, key.status());
    absl::StatusOr<audit::Answer> answer = audit::Ask(folder, *key, query);
    if (!answer.ok()) return Fail(kCommand, answer.status());
    areWhole &= answer->verification.faults.empty();
    trails.push_back({folder, *std::move(answer)});
  }
  if (common.json) {
    const absl::StatusOr<std::string> id = SpellUser(*options.user, options.encoding);
    if (!id.ok()) return Fail(kCommand, id.status());
    const auto known = admin::Ask<admin::ReadUserCommand>(*socket, {*id, options.keyspace});
    if (!known.ok()) return Fail(kCommand, known.status());
    const Json json = JsonOf(known->json.value("known", Json::array()), *scope, *erasures, trails);
    std::cout << json.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    UserOptions who;
    who.user = *options.user;
    who.encoding = options.encoding;
    who.keyspace = options.keyspace;
    const int shown = ShowUser(kCommand, common, who, /*withAttributes=*/true, /*withHistory=*/true);
    if (shown != 0) return shown;
    Print(*scope, *erasures, trails);
  }
  return areWhole ? 0 : Fail(kCommand, "a trail is not as it was written: kveil audit verify");
}

}  // namespace kveil::cli
