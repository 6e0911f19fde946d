// `kveil audit`: who read and wrote what, and whether the trail is as it was written.
#include <iostream>

#include "audit/trail_reader.h"
#include "base/text.h"
#include "cli/audit_trails.h"
#include "cli/common.h"
#include "cli/plain.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<std::vector<std::string>> Folders(const CommonOptions& common, const AuditOptions& options) {
  if (!options.trails.empty()) return options.trails;
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return config.status();
  return std::vector<std::string>{config::AuditFolder(*config)};
}

absl::StatusOr<audit::Query> QueryOf(const AuditOptions& options) {
  audit::Query query;
  query.topic = options.topic;
  query.workload = options.workload;
  const absl::Time now = absl::Now();
  for (const auto& [text, time] : {std::pair{&options.since, &query.since}, std::pair{&options.until, &query.until}}) {
    if (!text->has_value()) continue;
    const absl::StatusOr<absl::Time> parsed = ParseWhen(**text, now);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          StrCat("\"", **text, "\" is no time: give a date, an RFC 3339 time, or how long ago, such as 2h"));
    }
    *time = *parsed;
  }
  if (query.since >= query.until) return absl::InvalidArgumentError("--since is not before --until");
  return query;
}

}  // namespace

int RunAuditQuery(const CommonOptions& common, const AuditOptions& options) {
  constexpr std::string_view kCommand = "audit query";
  absl::StatusOr<audit::Query> query = QueryOf(options);
  if (!query.ok()) return Fail(kCommand, query.status());
  const absl::StatusOr<AuditScope> scope = FindAudit(kCommand, common, options);
  if (!scope.ok()) return Fail(kCommand, scope.status());
  if (scope->folders.empty()) return Fail(kCommand, "the agent keeps no audit trail (\"audit\": \"off\")");
  if (options.user.has_value()) {
    query->pseudonyms.emplace();
    query->registry = scope->registry;
    for (const AuditScope::Pseudonym& one : scope->pseudonyms) query->pseudonyms->push_back(one.pseudonym);
  }
  bool areWhole = true;
  Json all = Json::array();
  for (size_t i = 0; i < scope->folders.size(); ++i) {
    const std::string& folder = scope->folders[i];
    const absl::StatusOr<evidence::SigningKey> key = KeyOf(options, scope->folders, i);
    if (!key.ok()) return Fail(kCommand, key.status());
    const absl::StatusOr<audit::Answer> answer = audit::Ask(folder, *key, *query);
    if (!answer.ok()) return Fail(kCommand, answer.status());
    areWhole &= answer->verification.faults.empty();
    if (common.json) {
      all.push_back(JsonOf(folder, *answer));
    } else {
      PrintAnswer(folder, *answer, options.user.has_value());
    }
  }
  if (common.json) std::cout << all.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  return areWhole ? 0 : Fail(kCommand, "a trail is not as it was written: kveil audit verify");
}

int RunAuditVerify(const CommonOptions& common, const AuditOptions& options) {
  constexpr std::string_view kCommand = "audit verify";
  const absl::StatusOr<std::vector<std::string>> folders = Folders(common, options);
  if (!folders.ok()) return Fail(kCommand, folders.status());
  bool areWhole = true;
  Json all = Json::array();
  for (size_t i = 0; i < folders->size(); ++i) {
    const std::string& folder = (*folders)[i];
    const absl::StatusOr<evidence::SigningKey> key = KeyOf(options, *folders, i);
    if (!key.ok()) return Fail(kCommand, key.status());
    const absl::StatusOr<audit::Verification> found = audit::ReadTrail(folder, *key, [](const std::string&) {});
    if (!found.ok()) return Fail(kCommand, found.status());
    areWhole &= found->faults.empty();
    if (common.json) {
      all.push_back({{"trail", folder},
                     {"first", found->first},
                     {"last", found->last},
                     {"hash", found->hash},
                     {"signedUntil", found->time},
                     {"notes", found->notes},
                     {"faults", found->faults}});
      continue;
    }
    std::cout << folder << ": lines " << found->first << " to " << found->last << " in order, the last with SHA-256 "
              << found->hash << ", signed until " << found->time << ", verified with "
              << (options.publicKeys.empty() ? "the folder's own key" : options.publicKeys[i]) << "\n";
    for (const std::string& note : found->notes) std::cout << "NOTE " << Plain(note) << "\n";
    for (const std::string& fault : found->faults) std::cout << "WRONG " << Plain(fault) << "\n";
  }
  if (common.json) std::cout << all.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  return areWhole ? 0 : Fail(kCommand, "a trail is not as it was written");
}

int RunAuditKey(const CommonOptions& common, const AuditOptions& options) {
  const absl::StatusOr<std::vector<std::string>> folders = Folders(common, options);
  if (!folders.ok()) return Fail("audit key", folders.status());
  const absl::StatusOr<std::string> pem = evidence::ReadFile(folders->front() + "/public.pem");
  if (!pem.ok()) return Fail("audit key", pem.status());
  std::cout << *pem;
  return 0;
}

}  // namespace kveil::cli
