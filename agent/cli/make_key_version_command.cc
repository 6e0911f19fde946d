// `kveil keys make-version`: has a PKCS#11 token make the next version of the root key or of a KEK.
#include <iostream>

#include "cli/common.h"
#include "daemon/key_store.h"

namespace kveil::cli {

int RunMakeKeyVersion(const CommonOptions& common, const std::string& kek) {
  constexpr std::string_view kCommand = "keys make-version";
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return Fail(kCommand, config.status());
  const absl::StatusOr<std::string> made = daemon::MakeKeyVersion(config->keys, kek);
  if (!made.ok()) return Fail(kCommand, made.status());
  std::cout << "made " << *made << ". Agents wrap by it from now on; next: kveil keys rotate"
            << (kek.empty() ? "" : " --kek ") << kek << "\n";
  return 0;
}

}  // namespace kveil::cli
