// Reads small files of /proc and of the cgroup file system.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace kveil::intercept {

// The file's whole content, whatever length stat reports. kNotFound: it cannot be opened or read.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path);

}  // namespace kveil::intercept
