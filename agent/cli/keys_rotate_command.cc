// `kveil keys rotate`: having keys wrapped anew, by the newest version of the root key or of KEKs.
#include <iostream>
#include <map>
#include <set>

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
  if (response.isTurning) {
    std::cout << "the epochs are turning: a backup that is made before the end of the turn still opens what is erased "
                 "now (kveil epochs list)\n";
  }
  return 0;
}

void PrintKey(const RotateKeksCommand::Key& key) {
  std::cout << key.kek << "  window " << key.window << "  " << key.version.value_or("version not told")
            << (key.error.has_value() ? StrCat("  NOT ROTATED: ", *key.error) : std::string()) << "\n";
}

int RotateKeks(const std::string& socket, bool isJson, const RotateOptions& options) {
  nlohmann::json all = {{"keys", nlohmann::json::array()}};
  std::map<std::string, std::set<std::string>> versions;  // of each KEK
  size_t failed = 0;
  absl::Status broken;
  std::string after = options.after;
  while (true) {
    auto answer = admin::Ask<RotateKeksCommand>(socket, {.kek = options.kek, .after = after, .reason = options.reason},
                                                kAnswerTime);
    if (broken = answer.status(); !broken.ok()) break;
    for (const RotateKeksCommand::Key& key : answer->response.keys) {
      if (!isJson) PrintKey(key);
      if (key.version.has_value()) versions[key.kek].insert(*key.version);
      failed += key.error.has_value() ? 1 : 0;
    }
    for (nlohmann::json& key : answer->json["keys"]) all["keys"].push_back(std::move(key));
    if (!answer->response.next.has_value()) break;
    // An answer that does not go on would have no end.
    broken =
        *answer->response.next > after ? absl::OkStatus() : absl::DataLossError("the agent's answer is not in order");
    if (!broken.ok()) break;
    after = *answer->response.next;
  }
  if (isJson) {
    std::cout << all.dump(2) << "\n";
  } else if (broken.ok() && all["keys"].empty()) {
    std::cout << "the registry has no key under " << options.kek << "\n";
  }
  if (!broken.ok() && failed != 0) {  // they are before --after
    return Fail(kCommand, StrCat(ToStd(broken.message()), "; ", failed, " key(s) were not rotated; run it again"));
  }
  if (!broken.ok() && !after.empty()) {
    return Fail(kCommand, StrCat(ToStd(broken.message()), "; to go on with those that are left, add --after ", after));
  }
  if (!broken.ok()) return Fail(kCommand, broken);
  if (failed != 0) return Fail(kCommand, StrCat(failed, " key(s) were not rotated; run it again to go on"));
  for (const auto& [kek, of] : versions) {
    if (of.size() == 1) continue;
    return Fail(kCommand, StrCat("keys of ", kek, " are under ", absl::StrJoin(of, " and under "),
                                 ": run it again in some minutes, before you disable a version"));
  }
  return 0;
}

}  // namespace

int RunKeysRotate(const CommonOptions& common, const RotateOptions& options) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  return options.kek.empty() ? RotateRootKey(*socket, common.json, options) : RotateKeks(*socket, common.json, options);
}

}  // namespace kveil::cli
