// Text that is secret: tokens, messages that hold keys. Wiped whenever its memory is given back, also as it grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "crypto/secret.h"

namespace kveil::crypto {

template <typename T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() = default;
  template <typename U>
  explicit WipingAllocator(const WipingAllocator<U>&) {}
  T* allocate(size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* place, size_t count) {
    Wipe(MutableBytes(reinterpret_cast<uint8_t*>(place), count * sizeof(T)));
    std::allocator<T>().deallocate(place, count);
  }
  friend bool operator==(const WipingAllocator&, const WipingAllocator&) { return true; }
};

// Not a std::string: that keeps short text inside of itself, where no allocator wipes it.
using SecretText = std::vector<char, WipingAllocator<char>>;

inline std::string_view AsText(const SecretText& text) { return {text.data(), text.size()}; }
inline void Append(SecretText& text, std::string_view more) { text.insert(text.end(), more.begin(), more.end()); }
inline SecretText MakeSecretText(std::string_view from) { return SecretText(from.begin(), from.end()); }

}  // namespace kveil::crypto
