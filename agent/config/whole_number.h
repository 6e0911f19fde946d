// How large the whole numbers of JSON may be.
#pragma once

#include <cstdint>

namespace kveil::config {

// Up to it, JSON has each whole number exactly: RFC 8259 section 6.
inline constexpr int64_t kHighestWholeNumber = (int64_t{1} << 53) - 1;

}  // namespace kveil::config
