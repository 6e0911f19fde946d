// `kveil keys rotate`: having keys wrapped anew, by the newest version of the root key or of KEKs.
#include <iostream>

#include "absl/strings/str_join.h"
#include "admin/admin_client.h"
#include "admin/keys_command.h"
#include "base/text.h"
#include "cli/common.h"

namespace kveil::cli {
namespace {

using admin::RotateKeksCommand;
using admin::RotateRootKeyCommand;

constexpr std::string_view kCommand = "keys rotate";
// More than the agent takes for a page at the most.
constexpr std::chrono::seconds kAnswerTime{60};

int RotateRootKey(const std::string& socket, bool isJson, const RotateOptions& options) {
  const auto answer = admin::Ask<RotateRootKeyCommand>(socket, {.reason = options.reason}, kAnswerTime);
  if (!answer.ok()) return Fail(kCommand, answer.status());
  const RotateRootKeyCommand::Response& response = answer->response;
  if (isJson) {
    std::cout << answer->json.dump(2) << "\n";
    return 0;
  }
  std::cout << response.rootKey << ": " << response.keys << " keys of the registry are wrapped anew; "
            << (response.versions.empty() ? std::string("by which version, it does not tell")
                                          : StrCat("in use: ", absl::StrJoin(response.versions, ", ")))
            << "\n";
  return 0;
}

void PrintKey(const RotateKeksCommand::Key& key) {
  std::cout << key.kek << "  window " << key.window << "  " << key.version.value_or("version not told")
            << (key.error.has_value() ? StrCat("  NOT ROTATED: ", *key.error) : std::string()) << "\n";
}

int RotateKeks(const std::string& socket, bool isJson, const RotateOptions& options) {
  nlohmann::json all = {{"keys", nlohmann::json::array()}};
  size_t failed = 0;
  for (std::string after;;) {
    auto answer = admin::Ask<RotateKeksCommand>(socket, {.kek = options.kek, .after = after, .reason = options.reason},
                                                kAnswerTime);
    if (!answer.ok()) return Fail(kCommand, answer.status());
    for (const RotateKeksCommand::Key& key : answer->response.keys) {
      if (!isJson) PrintKey(key);
      failed += key.error.has_value() ? 1 : 0;
    }
    for (nlohmann::json& key : answer->json["keys"]) all["keys"].push_back(std::move(key));
    if (!answer->response.next.has_value()) break;
    // An answer that does not go on would have no end.
    if (*answer->response.next <= after) return Fail(kCommand, "the agent's answer is not in order");
    after = *answer->response.next;
  }
  if (isJson) {
    std::cout << all.dump(2) << "\n";
  } else if (all["keys"].empty()) {
    std::cout << "the registry has no key under " << options.kek << "\n";
  }
  return failed == 0 ? 0 : Fail(kCommand, StrCat(failed, " key(s) were not rotated; run it again to go on"));
}

}  // namespace

int RunKeysRotate(const CommonOptions& common, const RotateOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  return options.kek.empty() ? RotateRootKey(*socket, common.json, options) : RotateKeks(*socket, common.json, options);
}

}  // namespace kveil::cli
