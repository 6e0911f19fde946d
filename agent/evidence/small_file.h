// Small files that are there whole or not at all.
#pragma once

#include <string>
#include <string_view>

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kveil::evidence {

// The whole file. kNotFound: there is none. kUnavailable: it cannot be read, or is longer than 64 MiB.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Writes it beside its place, on disk, and puts it there. The folder's entry is on disk, too. Takes the place of a file
// of this name. Not for two writers of one file at a time.
absl::Status WriteFile(const std::string& path, std::string_view bytes, mode_t mode);

// Removes a file if it is there, also from the disk.
absl::Status RemoveFile(const std::string& path);

}  // namespace kveil::evidence
