// Reads small text files whole, and finds the policy files of a folder.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kveil::config {

// Each error names the file: kNotFound, kPermissionDenied, kInvalidArgument (not a regular file, or longer than `most`
// bytes), kUnavailable.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t most = 4 << 20);

// A name's path in the folder, and the name of a path in its folder.
std::string PathIn(const std::string& folder, std::string_view name);
std::string NameOf(const std::string& path);

// Whether the path leads into the folder, as the two are written: links are not followed.
bool IsInside(const std::string& path, const std::string& folder);

// What a folder of policies may hold, of whatever kind.
inline constexpr size_t kMostEntries = 4096;

// The paths of a folder's files that end so, sorted by name. Skips hidden files: editors keep their copies in them, and
// so does Kubernetes (..data) for its volumes. kNotFound: no such folder, or no such file in it. kInvalidArgument: it
// holds more than `most`, of which no more were read.
absl::StatusOr<std::vector<std::string>> FilesOfFolder(const std::string& folder, std::string_view ending = ".json",
                                                       size_t most = kMostEntries);

// The same for files and folders: each folder stands for its policy files. What is not there stays as it is, for
// ReadTextFile to say so.
absl::StatusOr<std::vector<std::string>> FilesOf(absl::Span<const std::string> paths);

}  // namespace kveil::config
