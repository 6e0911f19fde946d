// Views of raw memory, and the text view of the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace kveil {

using Bytes = absl::Span<const uint8_t>;
using MutableBytes = absl::Span<uint8_t>;
using ByteBuffer = std::vector<uint8_t>;

inline std::string_view AsText(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline Bytes AsBytes(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

}  // namespace kveil
