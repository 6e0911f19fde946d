// The codecs of record batches. Contexts are kept per thread and used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "base/bytes.h"

namespace kveil::kafka {

// As in the attributes of a batch. 5 to 7 are not assigned.
enum class Codec : uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };

// "none", "gzip", ...; "unknown" for a number that is not assigned.
std::string_view CodecName(Codec codec);

// What decompressed and rewritten buffers have beyond their size: bytes that may be read (their content means nothing),
// for parsers that read in whole vectors (simdjson).
inline constexpr size_t kTailPadding = 64;

// Compresses into `out`, replacing its content. gzip level 1, snappy in xerial framing, lz4 as one frame of independent
// blocks (Java's reader takes no other), zstd level 1. kNone copies. kInvalidArgument: the codec is not assigned.
absl::Status Compress(Codec codec, Bytes input, ByteBuffer& out);

// Decompresses into `out`, replacing its content, with kTailPadding readable bytes behind it. Takes snappy raw and in
// xerial framing. kResourceExhausted: the output would be longer than `limit`; kInvalidArgument: damaged input or a
// codec that is not assigned. `out` is of no use after an error.
absl::Status Decompress(Codec codec, Bytes input, size_t limit, ByteBuffer& out);

}  // namespace kveil::kafka
