// One provider so far.
#include "keys/root/open_root_key.h"

#include <unistd.h>

#include "base/text.h"
#include "keys/root/file_root_key.h"

namespace kveil::keys {

absl::StatusOr<std::unique_ptr<RootKey>> OpenRootKey(const RootKeyOptions& options, bool mayCreate,
                                                     std::chrono::steady_clock::time_point /*deadline*/) {
  return FileRootKey::Open(options.file, mayCreate);
}

std::optional<std::string> RootKeyOfSomeRegistry(const RootKeyOptions& options) {
  if (access(options.file.c_str(), F_OK) != 0) return std::nullopt;
  return StrCat("root key file ", options.file);
}

}  // namespace kveil::keys
