// A file with the id of a user per line.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kveil::cli {

// The ids of all lines (formats/user_lines.h), spelled as records spell them; line n is element n - 1. `encoding`: one
// of formats::kIdEncodingNames. kInvalidArgument: "FILE: line 7: ...".
absl::StatusOr<std::vector<std::string>> ReadUsersFile(const std::string& path, const std::string& encoding);

}  // namespace kveil::cli
