// The single codecs behind compression.h. Input and output as there; limits and padding are BoundedOutput's work.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "base/bytes.h"

namespace kveil::kafka::codecs {

// A buffer that grows while a stream is decompressed into it, never beyond the limit.
class BoundedOutput {
 public:
  // Replaces the content of `out`; `guess` is the size to start with.
  BoundedOutput(ByteBuffer& out, size_t limit, size_t guess);

  // Free room at the end, at least one byte; empty when the output is already longer than the limit.
  MutableBytes Room();
  void Commit(size_t size) { used_ += size; }
  // Cuts the buffer to what was committed and adds the padding; kResourceExhausted when that is beyond the limit.
  absl::Status Finish();

 private:
  ByteBuffer& out_;
  size_t limit_;
  size_t used_ = 0;
};

absl::Status Damaged(const char* codec);
absl::Status BeyondLimit();

absl::Status CompressGzip(Bytes input, ByteBuffer& out);
absl::Status DecompressGzip(Bytes input, size_t limit, ByteBuffer& out);
absl::Status CompressSnappy(Bytes input, ByteBuffer& out);
absl::Status DecompressSnappy(Bytes input, size_t limit, ByteBuffer& out);
absl::Status CompressLz4(Bytes input, ByteBuffer& out);
absl::Status DecompressLz4(Bytes input, size_t limit, ByteBuffer& out);
absl::Status CompressZstd(Bytes input, ByteBuffer& out);
absl::Status DecompressZstd(Bytes input, size_t limit, ByteBuffer& out);

}  // namespace kveil::kafka::codecs
