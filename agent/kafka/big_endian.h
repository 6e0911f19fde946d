// Loads and stores of big-endian integers at any address.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace kveil::kafka {

namespace internal {
inline uint8_t SwapBytes(uint8_t value) { return value; }
inline uint16_t SwapBytes(uint16_t value) { return __builtin_bswap16(value); }
inline uint32_t SwapBytes(uint32_t value) { return __builtin_bswap32(value); }
inline uint64_t SwapBytes(uint64_t value) { return __builtin_bswap64(value); }
}  // namespace internal

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "kveil runs on little-endian machines");

template <typename Integer>
Integer LoadBigEndian(const uint8_t* from) {
  std::make_unsigned_t<Integer> value;
  std::memcpy(&value, from, sizeof(value));
  return static_cast<Integer>(internal::SwapBytes(value));
}

template <typename Integer>
void StoreBigEndian(uint8_t* to, Integer value) {
  const auto swapped = internal::SwapBytes(static_cast<std::make_unsigned_t<Integer>>(value));
  std::memcpy(to, &swapped, sizeof(swapped));
}

}  // namespace kveil::kafka
