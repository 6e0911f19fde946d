#include "cli/audit_trails.h"

#include <iostream>

#include "admin/admin_client.h"
#include "admin/audit_command.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/erasing.h"
#include "cli/plain.h"
#include "config/units.h"
#include "users/facts_change.h"

namespace kveil::cli {
namespace {

using admin::AuditCommand;
using Json = nlohmann::ordered_json;

std::string What(const audit::Answer::Done& done) {
  std::string text =
      StrCat(done.access == "write" ? "wrote " : "read ", done.topic.empty() ? "other topics" : done.topic);
  if (!done.cluster.empty()) StrAppend(&text, " of cluster ", done.cluster);
  return text;
}

std::string CountsText(const audit::Counts& counts, bool isWrite) {
  std::string text = StrCat(counts.records, " record(s)");
  const auto add = [&text](uint64_t count, const char* what) {
    if (count > 0) StrAppend(&text, ", ", count, what);
  };
  add(counts.leftOut, " left out by rules");
  add(counts.erased, " of erased users left out");
  add(counts.plaintext, " not sealed");
  add(counts.refused, " refused");
  add(counts.denials, isWrite ? " request(s) denied" : " answer(s) denied");
  return text;
}

// "clicks.json" of "/etc/kveil/policies/clicks.json"
std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

absl::StatusOr<evidence::SigningKey> KeyOf(const AuditOptions& options, const std::vector<std::string>& folders,
                                           size_t index) {
  const std::vector<std::string>& keys = options.publicKeys;
  if (!keys.empty() && keys.size() != folders.size()) {
    return absl::InvalidArgumentError(
        StrCat("there are ", keys.size(), " --key for ", folders.size(), " trails: give one for each, in their order"));
  }
  return audit::ReadPublicKey(folders[index], keys.empty() ? "" : keys[index]);
}

absl::StatusOr<AuditScope> FindAudit(std::string_view command, const CommonOptions& common,
                                     const AuditOptions& options) {
  AuditScope scope;
  scope.folders = options.trails;
  AuditCommand::Request request;
  if (options.user.has_value()) {
    ASSIGN_OR_RETURN(request.user, SpellUser(*options.user, options.encoding));
    request.keyspace = options.keyspace;
  } else if (!scope.folders.empty()) {
    return scope;
  }
  ASSIGN_OR_RETURN(const std::string socket, AdminSocket(common));
  const auto answer = admin::Ask<AuditCommand>(socket, request);
  if (answer.ok()) {
    for (const AuditCommand::Pseudonym& one : answer->response.pseudonyms) {
      scope.pseudonyms.push_back({one.keyspace, one.pseudonym});
    }
    scope.registry = answer->response.registry;
    if (answer->response.error.has_value()) Warn(command, *answer->response.error);
    if (scope.folders.empty() && answer->response.folder.has_value()) {
      scope.folders.push_back(*answer->response.folder);
    }
    return scope;
  }
  if (options.user.has_value()) {
    return absl::Status(answer.status().code(),
                        StrCat(ToStd(answer.status().message()),
                               "; only a running agent can say under which pseudonym a user is counted"));
  }
  ASSIGN_OR_RETURN(const config::AgentConfig config, ReadConfig(common));
  scope.folders.push_back(config::AuditFolder(config));
  Warn(command, StrCat(ToStd(answer.status().message()), "; what was counted in the last minute may be missing"));
  return scope;
}

bool PrintAnswer(const std::string& folder, const audit::Answer& answer, bool isOfUser) {
  std::cout << "trail " << folder << ":\n";
  for (const audit::Answer::Done& done : answer.done) {
    std::string line =
        StrCat(audit::TextOf(done.first), " to ", audit::TextOf(done.last), "  ",
               done.workload.empty() ? (done.share.empty() ? "several workloads" : done.share) : done.workload);
    if (!done.serviceAccount.empty()) StrAppend(&line, " (service account ", done.serviceAccount, ")");
    if (!done.topic.empty()) StrAppend(&line, " as uid ", done.uid);
    StrAppend(&line, " ", What(done), ": ", CountsText(done.counts, done.access == "write"));
    if (done.entry > 0) {
      StrAppend(&line, ", by entry ", done.entry, " of \"", done.access, "\" in ", BaseName(done.file));
    }
    std::cout << "  " << Plain(line) << "\n";
  }
  if (answer.done.empty()) {
    std::cout << (isOfUser ? "  no record of this user was counted\n" : "  nothing was counted\n");
  }
  for (const std::string& gap : answer.gaps) std::cout << "  NOT KNOWN " << Plain(gap) << "\n";
  for (const std::string& fault : answer.verification.faults) std::cout << "  WRONG " << Plain(fault) << "\n";
  return answer.verification.faults.empty();
}

Json JsonOf(const std::string& folder, const audit::Answer& answer) {
  Json all = Json::array();
  for (const audit::Answer::Done& done : answer.done) {
    Json& one = all.emplace_back(Json{{"from", audit::TextOf(done.first)}, {"to", audit::TextOf(done.last)}});
    const auto put = [&one](const char* name, const std::string& text) {
      if (!text.empty()) one[name] = text;
    };
    put("workload", done.workload);
    put("serviceAccount", done.serviceAccount);
    put("share", done.share);
    one["uid"] = done.uid;
    one["access"] = done.access;
    put("cluster", done.cluster);
    put("topic", done.topic);
    put("file", done.file);
    if (done.entry > 0) one["entry"] = done.entry;
    one["records"] = done.counts.records;
    one["leftOut"] = done.counts.leftOut;
    one["erased"] = done.counts.erased;
    one["plaintext"] = done.counts.plaintext;
    one["refused"] = done.counts.refused;
    one["denials"] = done.counts.denials;
  }
  return {{"trail", folder},
          {"done", std::move(all)},
          {"notKnown", answer.gaps},
          {"faults", answer.verification.faults},
          {"signedUntil", answer.verification.time}};
}

absl::StatusOr<absl::Time> ParseWhen(const std::string& text, absl::Time now) {
  if (const auto ago = config::ParseDuration(text); ago.has_value()) return now - absl::FromChrono(*ago);
  return users::ParseUntil(text);
}

}  // namespace kveil::cli
