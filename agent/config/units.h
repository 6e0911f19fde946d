// Durations and sizes as the JSON files write them: a whole number and a unit, "60s", "64MiB".
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace kveil::config {

// Units ms, s, m, h; at most nine digits. nullopt for anything else.
std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text);
std::string FormatDuration(std::chrono::milliseconds duration);  // in the largest unit that divides it

// Units B, KiB, MiB, GiB; at most nine digits. nullopt for anything else.
std::optional<size_t> ParseSize(std::string_view text);
std::string FormatSize(size_t size);

}  // namespace kveil::config
