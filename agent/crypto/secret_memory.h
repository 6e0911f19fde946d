// Pages for secrets: they are in no core dump, and not on a swap device where the process may lock memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kveil::crypto {

class SecretMemory {
 public:
  // All zeros. Takes memory page by page, when it is first written.
  explicit SecretMemory(size_t size);
  SecretMemory(const SecretMemory&) = delete;
  SecretMemory& operator=(const SecretMemory&) = delete;
  ~SecretMemory();  // the kernel zeroes pages before it gives them to anyone

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  size_t size_;
  uint8_t* data_;
};

}  // namespace kveil::crypto
