// A file with the id of a user per line.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kveil::cli {

// The ids of all lines, spelled as records spell them; line n is element n - 1. kInvalidArgument: "FILE: line 7: ...".
// Lines end with a line feed, before which a carriage return may stand.
absl::StatusOr<std::vector<std::string>> ReadUsersFile(const std::string& path, const std::string& encoding);

}  // namespace kveil::cli
