// Parses and formats durations and sizes: a whole number and a unit.
#include "config/units.h"

#include <charconv>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/types/span.h"
#include "base/text.h"

namespace kveil::config {
namespace {

using Unit = std::pair<std::string_view, uint64_t>;

// In ascending order. In milliseconds and bytes.
constexpr Unit kDurationUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}};
constexpr Unit kSizeUnits[] = {{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
constexpr size_t kMostDigits = 9;  // times an hour or a GiB still fits 63 bits

std::optional<uint64_t> Parse(std::string_view text, absl::Span<const Unit> units) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  uint64_t number = 0;
  if (digits == 0 || digits > kMostDigits) return std::nullopt;
  std::from_chars(text.data(), text.data() + digits, number);
  for (const Unit& unit : units) {
    if (text.substr(digits) == unit.first) return number * unit.second;
  }
  return std::nullopt;
}

std::string Format(uint64_t value, absl::Span<const Unit> units) {
  size_t largest = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    if (value != 0 && value % units[i].second == 0) largest = i;
  }
  return StrCat(value / units[largest].second, units[largest].first);
}

}  // namespace

std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  const std::optional<uint64_t> value = Parse(text, kDurationUnits);
  if (!value) return std::nullopt;
  return std::chrono::milliseconds(*value);
}

std::string FormatDuration(std::chrono::milliseconds duration) { return Format(duration.count(), kDurationUnits); }

std::optional<size_t> ParseSize(std::string_view text) { return Parse(text, kSizeUnits); }

std::string FormatSize(size_t size) { return Format(size, kSizeUnits); }

}  // namespace kveil::config
