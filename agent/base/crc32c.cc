// CRC-32C by isa-l.
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstddef>

namespace kveil {

uint32_t Crc32c(Bytes bytes) {
  constexpr size_t kMaxRun = size_t{1} << 30;  // isa-l takes the length as int
  uint32_t crc = ~uint32_t{0};
  while (!bytes.empty()) {
    const size_t run = std::min(bytes.size(), kMaxRun);
    crc = crc32_iscsi(const_cast<uint8_t*>(bytes.data()), static_cast<int>(run), crc);
    bytes.remove_prefix(run);
  }
  return ~crc;
}

}  // namespace kveil
