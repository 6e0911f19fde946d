// memcpy and memcmp for the short runs of bytes that records consist of: a call takes longer than such a copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"

namespace kveil {

namespace internal {

template <typename Integer>
Integer LoadAs(const void* from) {
  Integer value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// kSize to 2 * kSize bytes: both ends, which may overlap.
template <size_t kSize>
inline void CopyEnds(uint8_t* to, const uint8_t* from, size_t size) {
  std::memcpy(to, from, kSize);
  std::memcpy(to + size - kSize, from + size - kSize, kSize);
}

template <typename Integer>
bool HaveSameEnds(const char* left, const char* right, size_t size) {
  const size_t last = size - sizeof(Integer);
  return LoadAs<Integer>(left) == LoadAs<Integer>(right) &&
         LoadAs<Integer>(left + last) == LoadAs<Integer>(right + last);
}

}  // namespace internal

// Returns where the next byte goes.
inline uint8_t* CopyRun(uint8_t* to, Bytes run) {
  const size_t size = run.size();
  if (size > PTRDIFF_MAX) __builtin_unreachable();  // gcc 12 warns of it where it knows that no other size is beyond 64
  const uint8_t* const from = run.data();
  if (size > 32) {
    if (size > 64) {
      std::memcpy(to, from, size);
    } else {
      internal::CopyEnds<32>(to, from, size);
    }
  } else if (size > 16) {
    internal::CopyEnds<16>(to, from, size);
  } else if (size >= 8) {
    internal::CopyEnds<8>(to, from, size);
  } else if (size >= 4) {
    internal::CopyEnds<4>(to, from, size);
  } else {
    for (size_t i = 0; i < size; ++i) to[i] = from[i];
  }
  return to + size;
}

inline bool AreSameRuns(const char* left, const char* right, size_t size) {
  if (size > 16) return std::memcmp(left, right, size) == 0;
  if (size >= 8) return internal::HaveSameEnds<uint64_t>(left, right, size);
  if (size >= 4) return internal::HaveSameEnds<uint32_t>(left, right, size);
  for (size_t i = 0; i < size; ++i) {
    if (left[i] != right[i]) return false;
  }
  return true;
}

}  // namespace kveil
