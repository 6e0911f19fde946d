// Numbers in words, for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/text.h"

namespace kveil::cli {

// "90 s", "3 min", "5 h", "12 days"
inline std::string DurationText(uint64_t seconds) {
  if (seconds < 120) return StrCat(seconds, " s");
  if (seconds < 120 * 60) return StrCat(seconds / 60, " min");
  if (seconds < 48 * 3600) return StrCat(seconds / 3600, " h");
  return StrCat(seconds / 86400, " days");
}

// "1 topic", "3 topics"
inline std::string CountText(uint64_t count, std::string_view noun) {
  return StrCat(count, " ", noun, count == 1 ? "" : "s");
}

}  // namespace kveil::cli
