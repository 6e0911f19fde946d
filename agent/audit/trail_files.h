// The names of the trail's files, and what their first lines say of the files before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kveil::audit {

// kUnavailable, of errno.
absl::Status FileError(const std::string& path);

// The files of which no line was signed, the oldest first.
absl::StatusOr<std::vector<std::string>> SetAsideIn(const std::string& folder);
// The files with lines, in order.
absl::StatusOr<std::vector<std::string>> FilesOf(const std::string& folder);
// Where the lines of `file` end, if the text of the next file begins by saying that what follows there was never
// signed.
std::optional<uint64_t> SignedEnd(const std::string& file, const std::string& next);
// The number of its first line, as its name says; nullopt if it is no such file.
std::optional<uint64_t> FirstLineOf(const std::string& file);

// The name of a new file. Of a file: the day (UTC) of its lines.
std::string FileName(uint64_t firstLine, absl::Time now);
std::string_view DayIn(std::string_view file);
std::string DayOf(absl::Time time);
// The name of `file` when it is set aside for the count-th time, and back; "" for what is no such name.
std::string SetAsideName(const std::string& file, int count);
std::string FormerName(const std::string& name);
// The hash of the line before the first of a file. Empty: it cannot be read.
std::string PreviousOf(const std::string& path);

}  // namespace kveil::audit
