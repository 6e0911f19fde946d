// `kveil keys list` and `kveil keys show`: which keys the registry has, page by page.
#include <algorithm>
#include <iostream>

#include "absl/strings/ascii.h"
#include "admin/admin_client.h"
#include "admin/keys_command.h"
#include "base/text.h"
#include "cli/common.h"

namespace kveil::cli {
namespace {

using admin::ListKeysCommand;

constexpr size_t kDigitsOfAnId = 32;

void PrintLine(const ListKeysCommand::Key& key) {
  std::cout << key.id << "  " << key.scope << "  " << (key.erased.has_value() ? "erased" : "active") << "  epoch "
            << key.epoch << "  " << key.made << "\n";
}

void PrintAll(const ListKeysCommand::Key& key) {
  std::cout << "key        " << key.id << "\n"
            << "scope      " << key.scope << "\n"
            << "pseudonym  " << key.pseudonym << "  (as in receipts and the audit trail)\n";
  if (key.window.has_value()) std::cout << "window     " << *key.window << "  (of 30 days)\n";
  std::cout << "epoch      " << key.epoch << "\n"
            << "made       " << key.made << "\n"
            << "state      " << (key.erased.has_value() ? StrCat("erased ", *key.erased) : "active") << "\n";
}

}  // namespace

int RunKeysList(const CommonOptions& common, const KeysOptions& options) {
  constexpr std::string_view kCommand = "keys list";
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  nlohmann::json all = {{"keys", nlohmann::json::array()}};
  std::optional<std::string> next = absl::AsciiStrToLower(options.from);
  for (uint64_t left = options.most; left > 0 && next.has_value();) {
    auto answer =
        admin::Ask<ListKeysCommand>(*socket, {.from = *next, .most = std::min<uint64_t>(left, ListKeysCommand::kMost)});
    if (!answer.ok()) return Fail(kCommand, answer.status());
    for (const ListKeysCommand::Key& key : answer->response.keys) {
      if (!common.json) PrintLine(key);
    }
    for (nlohmann::json& key : answer->json["keys"]) all["keys"].push_back(std::move(key));
    left -= std::min<uint64_t>(left, ListKeysCommand::kMost);
    // An answer that does not go on would have no end.
    if (answer->response.next.has_value() && *answer->response.next <= *next) {
      return Fail(kCommand, "the agent's answer is not in order");
    }
    next = std::move(answer->response.next);
  }
  if (next.has_value()) all["next"] = *next;
  if (common.json) {
    std::cout << all.dump(2) << "\n";
  } else if (next.has_value()) {
    std::cout << "there are more: kveil keys list --from " << *next << "\n";
  }
  return 0;
}

int RunKeysShow(const CommonOptions& common, const KeysOptions& options) {
  constexpr std::string_view kCommand = "keys show";
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  if (options.from.size() != kDigitsOfAnId) return Fail(kCommand, "a key's id has 32 hexadecimal digits");
  const auto answer = admin::Ask<ListKeysCommand>(*socket, {.from = options.from, .most = 1});
  if (!answer.ok()) return Fail(kCommand, answer.status());
  const std::vector<ListKeysCommand::Key>& keys = answer->response.keys;
  if (keys.empty() || ToAbsl(keys.front().id) != absl::AsciiStrToLower(options.from)) {
    return Fail(kCommand, "the registry has no such key");
  }
  if (common.json) {
    std::cout << answer->json["keys"][0].dump(2) << "\n";
  } else {
    PrintAll(keys.front());
  }
  return 0;
}

}  // namespace kveil::cli
