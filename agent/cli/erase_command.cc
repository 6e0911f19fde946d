// `kveil erase`: has the agent destroy a user's keys.
#include <algorithm>
#include <iostream>

#include "admin/admin_server.h"
#include "base/text.h"
#include "cli/common.h"
#include "formats/user_id.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

void PrintErased(const Json& erased) {
  std::cout << "erased at " << erased.value("time", "?") << ": " << erased.value("keys", uint64_t{0})
            << " key(s) destroyed, keyspace(s):";
  for (const Json& keyspace : erased.value("keyspaces", Json::array())) std::cout << " " << keyspace.get<std::string>();
  std::cout << "\nEvery record of this user there is unreadable from now on, also in replicas, mirrors and backups of "
               "Kafka.\n"
               "Copies of the registry from before still hold the wrapped key(s): destroy them, too.\n";
  if (!erased.value("filesClean", true)) {
    std::cout
        << "The wrapped keys are still in the registry's write-ahead log, which another process is reading; the agent "
           "goes on until they are out, and `kveil status` says so.\n";
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
  Json request = {{"command", "erase"}, {"user", *id}};
  if (keyspace) request["keyspace"] = *keyspace;
  std::string line;
  try {
    line = request.dump();
  } catch (const Json::type_error&) {
    return Fail("erase", "the user or keyspace is not UTF-8 text");
  }
  const absl::StatusOr<std::string> answer = admin::AdminCall(config->admin.socket, line);
  if (!answer.ok()) return Fail("erase", answer.status());
  const Json result = Json::parse(*answer);
  if (common.json) {
    std::cout << result.dump(2) << "\n";
  } else {
    PrintErased(result.value("erased", Json::object()));
  }
  return 0;
}

}  // namespace kveil::cli
