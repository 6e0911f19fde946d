// `kveil keys advance-root`: moves a root key file on, where the agent cannot write it.
#include <iostream>

#include "base/text.h"
#include "cli/common.h"
#include "keys/root/root_key_file.h"

namespace kveil::cli {

int RunAdvanceRootKey(const std::string& path, uint64_t generation) {
  constexpr std::string_view kCommand = "keys advance-root";
  const absl::StatusOr<keys::RootKeyGeneration> root = keys::ReadRootKeyFile(path);
  if (!root.ok()) return Fail(kCommand, root.status());
  if (generation <= root->generation) {
    return Fail(kCommand, StrCat(path, " is of generation ", root->generation, " already, and cannot go back"));
  }
  if (generation - root->generation > keys::kMostGenerationsAhead) {
    return Fail(kCommand, StrCat("generation ", generation, " is too far ahead"));
  }
  const absl::Status advanced = keys::AdvanceRootKeyFile(path, {keys::DeriveGeneration(*root, generation), generation});
  if (!advanced.ok()) return Fail(kCommand, advanced);
  std::cout << path << " is of generation " << generation << " now, and opens nothing that is only of earlier ones\n";
  return 0;
}

}  // namespace kveil::cli
