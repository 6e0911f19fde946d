// What the registries' tables have in common.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace kveil::keys {

// As it is stored: these numbers stay.
enum StoredState : int64_t { kActive = 1, kErased = 2 };

// False when the column is not of that size: the row is damaged.
template <size_t kSize>
bool CopyTo(std::array<uint8_t, kSize>& out, Bytes bytes) {
  if (bytes.size() != kSize) return false;
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return true;
}

}  // namespace kveil::keys
