// A topic's id (KIP-516): 16 bytes on the wire, immutable, never used again for another topic.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>

namespace kveil::kafka {

// Of a topic's name, in bytes (org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH).
inline constexpr size_t kLongestTopicName = 249;

struct TopicId {
  std::array<uint8_t, 16> bytes = {};

  // All zero bytes mean "no id".
  bool IsZero() const { return *this == TopicId{}; }
  // As Kafka prints it: 22 characters of URL-safe base64 without padding.
  std::string Text() const;

  friend bool operator==(const TopicId&, const TopicId&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const TopicId& id) {
    return H::combine(std::move(state), id.bytes);
  }
};

}  // namespace kveil::kafka
