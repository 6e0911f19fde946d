#include "daemon/commands/receipt_writing.h"

#include <algorithm>

#include "base/log.h"
#include "base/text.h"
#include "daemon/commands/await_agents.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {

using receipts::Receipt;

absl::Status CheckReason(const std::optional<std::string>& reason, std::string_view consequence) {
  constexpr size_t kLongest = 500;
  if (!reason.has_value()) return absl::OkStatus();
  const bool isPlain = std::none_of(reason->begin(), reason->end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (isPlain && !reason->empty() && reason->size() <= kLongest) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("the reason has 1 to ", kLongest, " bytes without control characters; ", consequence));
}

Receipt BeginReceipt(Receipt::Kind kind, const keys::KeyService& keys, const admin::Caller& caller,
                     const std::optional<std::string>& reason, absl::Time time) {
  Receipt receipt;
  receipt.kind = kind;
  receipt.registry = keys.registryId();
  receipt.agent = keys.agentName();
  receipt.uid = caller.uid;
  receipt.reason = reason;
  receipt.time = TextOf(time);
  return receipt;
}

Receipt::Keyspace KeyspaceOf(const keys::NamedSubject& keyspace) {
  return {keyspace.name, PseudonymOf(keyspace.subject), std::nullopt};
}

admin::ReceiptNote WriteReceipt(const receipts::Store& store, const Receipt& receipt) {
  admin::ReceiptNote note;
  const absl::StatusOr<uint64_t> number = store.Append(receipt);
  if (number.ok()) {
    note.number = *number;
  } else {
    note.error = ToStd(number.status().message());
    log::Error("receipts.failed", {{"error", number.status()}});
  }
  return note;
}

}  // namespace kveil::daemon
