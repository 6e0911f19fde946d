// Whether a secret is anywhere in this process's memory: heap, stacks, anonymous mappings.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "crypto/secret.h"

namespace kveil::crypto {

// Reads all memory through /proc/self/mem, as a sanitizer would slow down every byte that is looked at in place. The
// secret and what is read lie in a mapping of their own, so that the search does not find itself.
class MemorySearch {
 public:
  explicit MemorySearch(const SecretKey& secret)
      : own_(static_cast<uint8_t*>(
            ::mmap(nullptr, kOwnSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0))) {
    memcpy(own_, secret.bytes().data(), SecretKey::kSize);
    EXPECT_NE(::getenv("LD_BIND_NOW"), nullptr) << "run it with LD_BIND_NOW=1, as ctest does (agent/main.cc says why)";
  }
  MemorySearch(MemorySearch&& other) : own_(std::exchange(other.own_, nullptr)) {}
  ~MemorySearch() {
    if (own_ != nullptr) ::munmap(own_, kOwnSize);
  }

  // In how many places the secret's 32 bytes are now.
  int Count() const {
    const int memory = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
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
      // The kernel shows neighbours as one mapping.
      const uintptr_t own = reinterpret_cast<uintptr_t>(own_);
      if (begin <= own && own < end) {
        count += CountIn(memory, begin, own) + CountIn(memory, own + kOwnSize, end);
      } else {
        count += CountIn(memory, begin, end);
      }
    }
    ::close(memory);
    return count;
  }

 private:
  static constexpr size_t kPageSize = 4096;
  static constexpr size_t kChunkSize = size_t{1} << 20;
  static constexpr size_t kOwnSize = kPageSize + kChunkSize;  // the secret; what is read

  int CountIn(int memory, uintptr_t begin, uintptr_t end) const {
    uint8_t* const chunk = own_ + kPageSize;
    int count = 0;
    while (begin < end) {
      const ssize_t size = ::pread(memory, chunk, std::min(kChunkSize, end - begin), static_cast<off_t>(begin));
      if (size < static_cast<ssize_t>(SecretKey::kSize)) break;
      const uint8_t* at = chunk;
      const uint8_t* const chunkEnd = chunk + size;
      while ((at = static_cast<const uint8_t*>(
                  ::memmem(at, static_cast<size_t>(chunkEnd - at), own_, SecretKey::kSize))) != nullptr) {
        ++count;
        ++at;
      }
      if (begin + static_cast<size_t>(size) >= end) break;
      begin += static_cast<size_t>(size) - (SecretKey::kSize - 1);  // it may lie across two chunks
    }
    return count;
  }

  uint8_t* own_;
};

}  // namespace kveil::crypto
