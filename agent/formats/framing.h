// The bytes that a serializer puts before the text itself.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace kveil::formats {

enum class Framing : uint8_t {
  kNone,
  kConfluent,  // a byte 0, then the schema's id in 4 bytes (Confluent's wire format)
};

// The text without its framing. nullopt: it does not have this framing.
inline std::optional<Bytes> WithoutFraming(Framing framing, Bytes bytes) {
  constexpr size_t kConfluentSize = 1 + 4;
  if (framing == Framing::kNone) return bytes;
  if (bytes.size() < kConfluentSize || bytes[0] != 0) return std::nullopt;
  return bytes.subspan(kConfluentSize);
}

}  // namespace kveil::formats
