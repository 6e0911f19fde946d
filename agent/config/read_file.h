// Reading a small text file whole, and finding those of a folder.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kveil::config {

// Errors: kNotFound, kPermissionDenied, kInvalidArgument (not a regular file, or longer than 4 MiB), kUnavailable; each
// names the file.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// The paths of a folder's policy files, *.json, by name. Hidden files are left out: editors keep their copies there,
// and so does Kubernetes (..data) for its volumes. kNotFound when the folder or any such file is missing.
absl::StatusOr<std::vector<std::string>> FilesOfFolder(const std::string& folder);

}  // namespace kveil::config
