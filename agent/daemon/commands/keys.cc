// What the agent does when it is asked which keys there are, or to wrap them anew.
#include <algorithm>

#include "absl/strings/escaping.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_text.h"
#include "crypto/key_id.h"
#include "daemon/commands/commands.h"
#include "daemon/commands/receipt_writing.h"

namespace kveil::daemon {
namespace {

using admin::ListKeysCommand;
using admin::RotateKeksCommand;
using admin::RotateRootKeyCommand;

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

absl::StatusOr<RotateRootKeyCommand::Response> RotateRootKey(keys::KeyService& keys,
                                                             const RotateRootKeyCommand::Request& request,
                                                             const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason, "nothing was rotated"));
  ASSIGN_OR_RETURN(const keys::KeyService::RotatedRoot rotated, keys.RotateRootKey());
  log::Info("keys.rootKey.rotated",
            {{"uid", caller.uid}, {"keys", rotated.keys}, {"reason", request.reason.value_or("")}});
  return RotateRootKeyCommand::Response{rotated.rootKey, rotated.keys, rotated.versions, rotated.isTurning};
}

absl::StatusOr<RotateKeksCommand::Response> RotateKeks(keys::KeyService& keys,
                                                       const RotateKeksCommand::Request& request,
                                                       const admin::Caller& caller) {
  RETURN_IF_ERROR(CheckReason(request.reason, "nothing was rotated"));
  crypto::KeyId after{};
  if (!request.after.empty()) {
    const std::optional<crypto::KeyId> id = crypto::ParseKeyId(request.after);
    if (!id.has_value()) return absl::InvalidArgumentError("a page begins after an id, 32 hexadecimal digits");
    after = *id;
  }
  const size_t slash = std::min(request.kek.find('/'), request.kek.size());
  const std::string_view name = std::string_view(request.kek).substr(std::min(slash + 1, request.kek.size()));
  ASSIGN_OR_RETURN(const keys::KeyService::RotatedKeks rotated,
                   keys.RotateKekKeys(std::string_view(request.kek).substr(0, slash), name, after));
  RotateKeksCommand::Response response;
  size_t failed = 0;
  for (const keys::KeyService::RotatedKek& one : rotated.keks) {
    RotateKeksCommand::Key& key = response.keys.emplace_back();
    key.kek = one.kek.Text();
    key.window = static_cast<uint64_t>(one.window);
    if (!one.version.empty()) key.version = one.version;
    if (one.status.ok()) continue;
    key.error = ToStd(one.status.message());
    ++failed;
  }
  if (rotated.next.has_value()) response.next = crypto::TextOf(*rotated.next);
  log::Info("keys.keks.rotated", {{"kek", request.kek},
                                  {"uid", caller.uid},
                                  {"keys", response.keys.size() - failed},
                                  {"failed", failed},
                                  {"reason", request.reason.value_or("")}});
  return response;
}

}  // namespace kveil::daemon
