#include "cli/reading_receipts.h"

#include "evidence/small_file.h"

namespace kveil::cli {

using evidence::SigningKey;
using receipts::Store;

absl::StatusOr<Store> OpenStore(const CommonOptions& common, const ReceiptsOptions& options) {
  if (!options.folder.empty()) return Store(options.folder);
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return config.status();
  return Store(config::ReceiptsFolder(config->keys));
}

absl::StatusOr<SigningKey> ReadKey(const Store& store, const ReceiptsOptions& options) {
  const absl::StatusOr<std::string> pem =
      options.publicKey.empty() ? store.PublicPem() : evidence::ReadFile(options.publicKey);
  if (!pem.ok()) return pem.status();
  return SigningKey::FromPublicPem(*pem);
}

}  // namespace kveil::cli
