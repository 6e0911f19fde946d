// Pauses of random length, so that many agents do not do the same at the same moment.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>

#include "crypto/secret.h"

namespace kveil::http {

// A random time from nothing to `most`: "full jitter".
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
inline std::chrono::milliseconds UpTo(std::chrono::milliseconds most) {
  uint8_t random[4];
  crypto::FillRandom(absl::MakeSpan(random));
  uint32_t number;
  std::memcpy(&number, random, sizeof number);
  return std::chrono::milliseconds(static_cast<int64_t>(static_cast<double>(most.count()) * number / UINT32_MAX));
}

}  // namespace kveil::http
