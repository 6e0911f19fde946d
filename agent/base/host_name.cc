#include "base/host_name.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace kveil {
namespace {

constexpr size_t kLongestName = 253;
constexpr size_t kLongestLabel = 63;

bool IsLabel(std::string_view label) {
  return !label.empty() && label.size() <= kLongestLabel && label.front() != '-' && label.back() != '-' &&
         std::all_of(label.begin(), label.end(),
                     [](unsigned char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_'; });
}

}  // namespace

bool IsHostName(std::string_view name) {
  if (name.size() > kLongestName) return false;
  for (;;) {
    const size_t dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (!IsLabel(label)) return false;
    if (dot == std::string_view::npos) return !std::all_of(label.begin(), label.end(), absl::ascii_isdigit);
    name.remove_prefix(dot + 1);
  }
}

}  // namespace kveil
