// Variable-length integers: unsigned ones in flexible messages (KIP-482), zigzag ones inside records (KIP-98).
// The readers advance a cursor and never read at or beyond `end`. They refuse what does not fit the type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace kveil::kafka {

inline constexpr size_t kMaxVarint32Size = 5;
inline constexpr size_t kMaxVarint64Size = 10;

namespace internal {

// The part of ReadUnsignedVarint for values of two bytes and more.
template <typename Unsigned>
bool ReadLongVarint(const uint8_t*& cursor, const uint8_t* end, Unsigned& value) {
  constexpr int kBits = 8 * sizeof(Unsigned);
  Unsigned result = 0;
  const uint8_t* at = cursor;
  for (int shift = 0; shift < kBits && at != end; shift += 7) {
    const Unsigned byte = *at++;
    result |= (byte & 0x7f) << shift;
    if (byte < 0x80) {
      if (shift + 7 > kBits && (byte >> (kBits - shift)) != 0) return false;
      value = result;
      cursor = at;
      return true;
    }
  }
  return false;
}

}  // namespace internal

template <typename Unsigned>
inline bool ReadUnsignedVarint(const uint8_t*& cursor, const uint8_t* end, Unsigned& value) {
  static_assert(std::is_unsigned_v<Unsigned>);
  if (cursor != end && *cursor < 0x80) [[likely]] {
    value = *cursor++;
    return true;
  }
  if (end - cursor >= 2 && cursor[1] < 0x80) [[likely]] {
    value = static_cast<Unsigned>((cursor[0] & 0x7f) | (cursor[1] << 7));
    cursor += 2;
    return true;
  }
  return internal::ReadLongVarint(cursor, end, value);
}

// Zigzag: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...
inline bool ReadVarint(const uint8_t*& cursor, const uint8_t* end, int32_t& value) {
  uint32_t raw;
  if (!ReadUnsignedVarint(cursor, end, raw)) return false;
  value = static_cast<int32_t>((raw >> 1) ^ (0u - (raw & 1)));
  return true;
}

inline bool ReadVarlong(const uint8_t*& cursor, const uint8_t* end, int64_t& value) {
  uint64_t raw;
  if (!ReadUnsignedVarint(cursor, end, raw)) return false;
  value = static_cast<int64_t>((raw >> 1) ^ (uint64_t{0} - (raw & 1)));
  return true;
}

inline constexpr size_t UnsignedVarintSize(uint64_t value) {
  // ceil(significant bits / 7), for 1 to 64 bits.
  return static_cast<size_t>((70 - __builtin_clzll(value | 1)) / 7);
}

inline constexpr uint32_t Zigzag(int32_t value) {
  return (static_cast<uint32_t>(value) << 1) ^ static_cast<uint32_t>(value >> 31);
}
inline constexpr uint64_t Zigzag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
inline constexpr size_t VarintSize(int32_t value) { return UnsignedVarintSize(Zigzag(value)); }

// Each writer returns the address after what it wrote; the caller made room.
inline uint8_t* WriteUnsignedVarint(uint8_t* to, uint64_t value) {
  while (value >= 0x80) {
    *to++ = static_cast<uint8_t>(value | 0x80);
    value >>= 7;
  }
  *to++ = static_cast<uint8_t>(value);
  return to;
}
inline uint8_t* WriteVarint(uint8_t* to, int32_t value) { return WriteUnsignedVarint(to, Zigzag(value)); }

}  // namespace kveil::kafka
