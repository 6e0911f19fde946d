// What commands that write receipts have in common.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "admin/command.h"
#include "admin/spread.h"
#include "keys/service/key_service.h"
#include "receipts/receipt.h"
#include "receipts/store.h"

namespace kveil::daemon {

// Whether a receipt may give this reason: one must not be made to look like another. kInvalidArgument: it may not;
// `consequence`, such as "nobody was erased".
absl::Status CheckReason(const std::optional<std::string>& reason, std::string_view consequence);

// With what every receipt says.
receipts::Receipt BeginReceipt(receipts::Receipt::Kind kind, const keys::KeyService& keys, const admin::Caller& caller,
                               const std::optional<std::string>& reason, absl::Time time);

receipts::Receipt::Keyspace KeyspaceOf(const keys::NamedSubject& keyspace);

// What was done stays done whether or not it can be written. An error is logged.
admin::ReceiptNote WriteReceipt(const receipts::Store& store, const receipts::Receipt& receipt);

}  // namespace kveil::daemon
