// Keeps libbpf's warnings.
#include "intercept/kernel/load_log.h"

#include <cstdarg>
#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace kveil::intercept {
namespace {

Mutex printLock;
std::string printed;  // guarded by printLock

// A verifier's log comes as one piece of up to megabytes, and its end is what counts.
__attribute__((format(printf, 2, 0))) int KeepWarnings(libbpf_print_level level, const char* format,
                                                       va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  va_list again;
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (size <= 0) return 0;
  const size_t before = printed.size();
  printed.resize(before + static_cast<size_t>(size) + 1);
  std::vsnprintf(printed.data() + before, static_cast<size_t>(size) + 1, format, arguments);
  printed.pop_back();
  return 0;
}

}  // namespace

LoadLog::LoadLog() : lock_(printLock), previous_(libbpf_set_print(KeepWarnings)) { printed.clear(); }
LoadLog::~LoadLog() { libbpf_set_print(previous_); }

std::string LoadLog::LastLines() const {
  constexpr size_t kLines = 8;
  std::vector<absl::string_view> lines;
  for (const absl::string_view line : absl::StrSplit(printed, '\n', absl::SkipWhitespace())) {
    if (!absl::StrContains(line, "PROG LOAD LOG") && !absl::StartsWith(line, "processed ")) lines.push_back(line);
  }
  if (lines.size() > kLines) lines.erase(lines.begin(), lines.end() - kLines);
  return absl::StrJoin(lines, "\n  ");
}

}  // namespace kveil::intercept
