// CRC-32C (Castagnoli), the checksum of record batches.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace kveil {

// RFC 3720 appendix B.4: the checksum of "123456789" is 0xe3069283.
uint32_t Crc32c(Bytes bytes);

}  // namespace kveil
