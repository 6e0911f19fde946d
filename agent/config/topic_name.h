// What Kafka takes as a topic's name.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "absl/strings/ascii.h"

namespace kveil::config {

inline constexpr size_t kLongestTopic = 249;  // Kafka's own limit

// Whether a topic's name may begin so, or be this.
inline bool HasTopicCharacters(std::string_view text) {
  return text.size() <= kLongestTopic && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

inline bool IsTopicName(std::string_view text) {
  return !text.empty() && text != "." && text != ".." && HasTopicCharacters(text);
}

}  // namespace kveil::config
