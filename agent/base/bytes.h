// Views of memory as bytes and as text, and a growable buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace kveil {

using Bytes = absl::Span<const uint8_t>;
using MutableBytes = absl::Span<uint8_t>;

// Leaves new elements uninitialised, so that a buffer about to be overwritten is not zeroed first.
template <typename T>
struct UninitialisedAllocator : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = UninitialisedAllocator<U>;
  };
  template <typename U, typename... Arguments>
  void construct(U* place, Arguments&&... arguments) {
    if constexpr (sizeof...(Arguments) == 0) {
      ::new (static_cast<void*>(place)) U;
    } else {
      ::new (static_cast<void*>(place)) U(std::forward<Arguments>(arguments)...);
    }
  }
};

// resize() leaves new bytes uninitialised.
using ByteBuffer = std::vector<uint8_t, UninitialisedAllocator<uint8_t>>;

// Appends `bytes`, which must not lie in `buffer`. insert() would copy them one by one, as the allocator is not the
// standard one.
inline void Append(ByteBuffer& buffer, Bytes bytes) {
  const size_t size = buffer.size();
  buffer.resize(size + bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.data() + size, bytes.data(), bytes.size());
}

inline Bytes Between(const uint8_t* start, const uint8_t* end) {
  return Bytes(start, static_cast<size_t>(end - start));
}

inline std::string_view AsText(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline Bytes AsBytes(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

}  // namespace kveil
