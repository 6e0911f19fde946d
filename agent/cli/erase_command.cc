// `kveil erase`: has the agent destroy a user's keys.
#include <algorithm>
#include <iostream>

#include "admin/admin_client.h"
#include "admin/erase_command.h"
#include "base/text.h"
#include "cli/common.h"
#include "formats/user_id.h"

namespace kveil::cli {
namespace {

void PrintErased(const admin::EraseCommand::Erased& erased) {
  std::cout << "erased at " << erased.time << ": " << erased.keys << " key(s) destroyed, keyspace(s):";
  for (const std::string& keyspace : erased.keyspaces) std::cout << " " << keyspace;
  std::cout << "\nEvery record of this user there is unreadable from now on, also in replicas, mirrors and backups of "
               "Kafka.\n"
               "Copies of the registry from before still hold the wrapped key(s): destroy them, too.\n";
  if (!erased.filesClean) {
    std::cout
        << "The registry's write-ahead log still holds the wrapped keys. If it is an SQLite file that another process "
           "is reading, the agent goes on until they are out, and `kveil status` says so. PostgreSQL keeps them for a "
           "while: see docs/security.md.\n";
  }
}

// The id's spelling. A text may be anything, so that what an earlier version sealed can be named, too.
absl::StatusOr<std::string> Spell(const std::string& user, const std::string& encoding) {
  const auto name = std::find(formats::kIdEncodingNames.begin(), formats::kIdEncodingNames.end(), encoding);
  const auto as = static_cast<formats::IdEncoding>(name - formats::kIdEncodingNames.begin());
  if (as == formats::IdEncoding::kText) return user;
  std::string scratch;
  std::string_view id;
  const formats::IdProblem problem = formats::IdOfText(as, user, scratch, id);
  if (problem != formats::IdProblem::kNone) return absl::InvalidArgumentError(ToAbsl(formats::Explain(problem)));
  return std::string(id);
}

}  // namespace

int RunErase(const CommonOptions& common, const std::string& user, const std::string& encoding,
             const std::optional<std::string>& keyspace) {
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return Fail("erase", config.status());
  if (user.empty()) return Fail("erase", "--user is empty");
  if (keyspace.has_value() && keyspace->empty()) return Fail("erase", "--keyspace is empty");
  const absl::StatusOr<std::string> id = Spell(user, encoding);
  if (!id.ok()) return Fail("erase", id.status());
  const auto answer = admin::Ask<admin::EraseCommand>(config->admin.socket, {.user = *id, .keyspace = keyspace});
  if (!answer.ok()) return Fail("erase", answer.status());
  if (common.json) {
    std::cout << answer->json.dump(2) << "\n";
  } else {
    PrintErased(answer->response.erased);
  }
  return 0;
}

}  // namespace kveil::cli
