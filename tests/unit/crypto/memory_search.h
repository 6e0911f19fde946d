// Whether a secret is anywhere in this process's memory: heap, stacks, anonymous mappings.
#pragma once

#include <stdint.h>
#include <string.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <string>

#include "crypto/secret.h"

namespace kveil::crypto {

// Holds the secret in a disguise, so that the search does not find itself.
class MemorySearch {
 public:
  explicit MemorySearch(const SecretKey& secret) {
    for (size_t i = 0; i < disguised_.size(); ++i) {
      uint64_t word;
      memcpy(&word, secret.bytes().data() + i * sizeof(word), sizeof(word));
      disguised_[i] = word ^ kDisguise;
    }
  }

  // In how many places the secret's 32 bytes are now.
  int Count() const {
    int count = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      uintptr_t begin = 0, end = 0;
      char access[5] = {};
      char name[64] = {};
      // Files aside (also the loader's [vvar] and the like). A sanitizer's shadow is larger than all memory.
      if (sscanf(line.c_str(), "%lx-%lx %4s %*s %*s %*s %63s", &begin, &end, access, name) < 3) continue;
      const std::string_view what = name;
      if (access[0] != 'r' || access[1] != 'w' || end - begin > (size_t{1} << 30)) continue;
      if (!what.empty() && what != "[heap]" && !what.starts_with("[stack") && !what.starts_with("[anon")) continue;
      count += CountIn(reinterpret_cast<const uint8_t*>(begin), reinterpret_cast<const uint8_t*>(end));
    }
    return count;
  }

 private:
  static constexpr uint64_t kDisguise = 0x5bd1e995a7c3f00d;

  __attribute__((no_sanitize("address", "thread"))) int CountIn(const uint8_t* at, const uint8_t* end) const {
    int count = 0;
    for (; at + SecretKey::kSize <= end; ++at) {
      size_t i = 0;
      while (i < disguised_.size() && (Word(at + i * sizeof(uint64_t)) ^ kDisguise) == disguised_[i]) ++i;
      if (i == disguised_.size()) ++count;
    }
    return count;
  }

  // A load of its own, which no sanitizer looks at.
  __attribute__((no_sanitize("address", "thread"))) static uint64_t Word(const uint8_t* at) {
    struct __attribute__((packed, may_alias)) Unaligned {
      uint64_t word;
    };
    return reinterpret_cast<const Unaligned*>(at)->word;
  }

  std::array<uint64_t, SecretKey::kSize / sizeof(uint64_t)> disguised_{};
};

}  // namespace kveil::crypto
