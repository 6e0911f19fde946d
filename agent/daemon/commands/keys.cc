// What the agent does when it is asked which keys there are.
#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_text.h"
#include "crypto/key_id.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

using admin::ListKeysCommand;

ListKeysCommand::Key Of(const keys::Registry::KeyInfo& from) {
  ListKeysCommand::Key key;
  key.id = crypto::TextOf(from.id);
  key.scope = keys::NameOf(from.scope);
  key.pseudonym = PseudonymOf(from.name.subject);
  if (from.scope != keys::Scope::kUser) key.window = static_cast<uint64_t>(from.name.window);
  key.epoch = static_cast<uint64_t>(from.epoch);
  key.made = UtcText(from.made);
  if (from.erased.has_value()) key.erased = UtcText(*from.erased);
  return key;
}

}  // namespace

absl::StatusOr<ListKeysCommand::Response> ListKeys(keys::KeyService& keys, const ListKeysCommand::Request& request) {
  static_assert(ListKeysCommand::kMost == keys::KeyService::kMostKeysListed);
  const std::optional<std::string> from = BytesOfHex(request.from);
  if (!from.has_value() || request.most < 1 || request.most > ListKeysCommand::kMost) {
    return absl::InvalidArgumentError(
        StrCat("an id has hexadecimal digits, two per byte, and 1 to ", ListKeysCommand::kMost, " are listed at once"));
  }
  ASSIGN_OR_RETURN(const keys::Registry::KeyList list, keys.ListKeys(*from, request.most));
  ListKeysCommand::Response response;
  for (const keys::Registry::KeyInfo& key : list.keys) response.keys.push_back(Of(key));
  if (!list.next.empty()) response.next = absl::BytesToHexString(list.next);
  return response;
}

}  // namespace kveil::daemon
