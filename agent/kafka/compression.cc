// Which codec is which, and the output that grows within its limit.
#include "kafka/compression.h"

#include <algorithm>

#include "base/text.h"
#include "kafka/codecs/codecs.h"

namespace kveil::kafka {
namespace {

absl::Status NotAssigned(Codec codec) {
  return absl::InvalidArgumentError(StrCat("codec ", static_cast<int>(codec), " is not assigned"));
}

absl::Status Copy(Bytes input, ByteBuffer& out) {
  out.reserve(input.size() + kTailPadding);
  out.assign(input.begin(), input.end());
  return absl::OkStatus();
}

}  // namespace

namespace codecs {

BoundedOutput::BoundedOutput(ByteBuffer& out, size_t limit, size_t guess) : out_(out), limit_(limit) {
  out_.clear();
  out_.resize(std::max<size_t>(std::min(guess, limit), 1));
}

MutableBytes BoundedOutput::Room() {
  if (used_ > limit_) return {};
  if (used_ == out_.size()) {
    // One byte beyond the limit tells output that is too long from output that just fits.
    const size_t most = limit_ + 1;
    out_.resize(std::max(used_ + 1, std::min(most, 2 * used_)));
  }
  return MutableBytes(out_.data() + used_, out_.size() - used_);
}

absl::Status BoundedOutput::Finish() {
  if (used_ > limit_) return BeyondLimit();
  out_.resize(used_);
  out_.reserve(used_ + kTailPadding);
  return absl::OkStatus();
}

absl::Status Damaged(const char* codec) {
  return absl::InvalidArgumentError(StrCat("the ", codec, " data of a batch is damaged"));
}

absl::Status BeyondLimit() { return absl::ResourceExhaustedError("a batch decompresses to more than the limit"); }

}  // namespace codecs

std::string_view CodecName(Codec codec) {
  switch (codec) {
    case Codec::kNone:
      return "none";
    case Codec::kGzip:
      return "gzip";
    case Codec::kSnappy:
      return "snappy";
    case Codec::kLz4:
      return "lz4";
    case Codec::kZstd:
      return "zstd";
  }
  return "unknown";
}

absl::Status Compress(Codec codec, Bytes input, ByteBuffer& out) {
  switch (codec) {
    case Codec::kNone:
      return Copy(input, out);
    case Codec::kGzip:
      return codecs::CompressGzip(input, out);
    case Codec::kSnappy:
      return codecs::CompressSnappy(input, out);
    case Codec::kLz4:
      return codecs::CompressLz4(input, out);
    case Codec::kZstd:
      return codecs::CompressZstd(input, out);
  }
  return NotAssigned(codec);
}

absl::Status Decompress(Codec codec, Bytes input, size_t limit, ByteBuffer& out) {
  switch (codec) {
    case Codec::kNone:
      return input.size() > limit ? codecs::BeyondLimit() : Copy(input, out);
    case Codec::kGzip:
      return codecs::DecompressGzip(input, limit, out);
    case Codec::kSnappy:
      return codecs::DecompressSnappy(input, limit, out);
    case Codec::kLz4:
      return codecs::DecompressLz4(input, limit, out);
    case Codec::kZstd:
      return codecs::DecompressZstd(input, limit, out);
  }
  return NotAssigned(codec);
}

}  // namespace kveil::kafka
