// `kveil keys create-root`: makes a root key file that several nodes are to share.
#include <unistd.h>

#include <iostream>

#include "base/text.h"
#include "cli/common.h"
#include "keys/root/root_key_file.h"

namespace kveil::cli {

int RunCreateRootKey(const std::string& path) {
  constexpr std::string_view kCommand = "keys create-root";
  if (::access(path.c_str(), F_OK) == 0) return Fail(kCommand, StrCat(path, " exists, and is left as it is"));
  const absl::StatusOr<keys::RootKeyGeneration> key = keys::CreateRootKeyFile(path);
  if (!key.ok()) return Fail(kCommand, key.status());
  std::cout << "made " << path << "; keep a copy of it: without it, nothing that is sealed under it can be opened\n";
  return 0;
}

}  // namespace kveil::cli
