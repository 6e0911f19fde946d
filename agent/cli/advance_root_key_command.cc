// `kveil keys advance-root`: makes the next root key file, where the agent cannot write it. Leaves the former one as it
// is: with a wrong number, the new one opens nothing.
#include <iostream>

#include "base/text.h"
#include "cli/common.h"
#include "keys/root/root_key_file.h"

namespace kveil::cli {

int RunAdvanceRootKey(const std::string& path, uint64_t generation, const std::string& to) {
  constexpr std::string_view kCommand = "keys advance-root";
  const absl::StatusOr<keys::RootKeyGeneration> root = keys::ReadRootKeyFile(path);
  if (!root.ok()) return Fail(kCommand, root.status());
  if (generation <= root->generation) {
    return Fail(kCommand, StrCat(path, " is of generation ", root->generation, " already, and cannot go back"));
  }
  if (generation - root->generation > keys::kMostGenerationsAhead) {
    return Fail(kCommand, StrCat("generation ", generation, " is too far ahead"));
  }
  const absl::Status made = keys::WriteRootKeyFile(to, {keys::DeriveGeneration(*root, generation), generation});
  if (!made.ok()) return Fail(kCommand, made);
  std::cout << "made " << to << ", of generation " << generation << ". Give it to the agents, and destroy " << path
            << " and all copies of it when no agent has the note `epochs` any more: until then, you may need it\n";
  return 0;
}

}  // namespace kveil::cli
