// A file that lists users, one id per line.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/user_id.h"

namespace kveil::policy {

// The ids in their one spelling, in order, each once. Lines end with a line feed, before which a carriage return may
// stand. Empty lines are skipped; a file without an id lists nobody. Errors name the file and the line:
// kInvalidArgument (what is no id, more than `most` of them), and those of config::ReadTextFile.
absl::StatusOr<std::vector<std::string>> ReadUserList(const std::string& path, formats::IdEncoding as, size_t most);

}  // namespace kveil::policy
