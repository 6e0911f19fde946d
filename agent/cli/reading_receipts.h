// What commands that read receipts have in common.
#pragma once

#include "absl/status/statusor.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "evidence/signing_key.h"
#include "receipts/store.h"

namespace kveil::cli {

// The folder that was given, or that of the configuration. Errors are those of ReadConfig.
absl::StatusOr<receipts::Store> OpenStore(const CommonOptions& common, const ReceiptsOptions& options);
// The public key that was given, or the store's own.
absl::StatusOr<evidence::SigningKey> ReadKey(const receipts::Store& store, const ReceiptsOptions& options);

}  // namespace kveil::cli
