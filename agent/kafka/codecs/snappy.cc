// snappy, raw (librdkafka, Go clients) and in the xerial framing of snappy-java (Java clients and brokers):
//   82 'S' 'N' 'A' 'P' 'P' 'Y' 00, int32 version, int32 oldest compatible version, then blocks of int32 length and raw
//   snappy.
#include <snappy.h>

#include <algorithm>
#include <array>

#include "base/status_macros.h"
#include "kafka/big_endian.h"
#include "kafka/codecs/codecs.h"
#include "kafka/compression.h"

namespace kveil::kafka::codecs {
namespace {

constexpr std::array<uint8_t, 8> kXerialMagic = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
constexpr size_t kXerialHeaderSize = kXerialMagic.size() + 4 + 4;
constexpr int32_t kXerialVersion = 1;
// Each call of the library allocates its hash table anew, so blocks are larger than snappy-java's 32 KiB.
constexpr size_t kBlockSize = 256 * 1024;

const char* Chars(const uint8_t* bytes) { return reinterpret_cast<const char*>(bytes); }
char* Chars(uint8_t* bytes) { return reinterpret_cast<char*>(bytes); }

bool IsXerial(Bytes input) {
  return input.size() >= kXerialHeaderSize && input.first(kXerialMagic.size()) == Bytes(kXerialMagic);
}

// Appends what one raw block holds.
absl::Status AppendBlock(Bytes block, size_t limit, ByteBuffer& out) {
  size_t size = 0;
  if (!snappy::GetUncompressedLength(Chars(block.data()), block.size(), &size)) return Damaged("snappy");
  if (size > limit - out.size()) return BeyondLimit();
  const size_t start = out.size();
  out.resize(start + size);
  if (!snappy::RawUncompress(Chars(block.data()), block.size(), Chars(out.data() + start))) return Damaged("snappy");
  return absl::OkStatus();
}

}  // namespace

absl::Status CompressSnappy(Bytes input, ByteBuffer& out) {
  const size_t blocks = input.size() / kBlockSize + 1;
  out.resize(kXerialHeaderSize + blocks * (sizeof(int32_t) + snappy::MaxCompressedLength(kBlockSize)));
  std::copy(kXerialMagic.begin(), kXerialMagic.end(), out.begin());
  StoreBigEndian(out.data() + kXerialMagic.size(), kXerialVersion);
  StoreBigEndian(out.data() + kXerialMagic.size() + 4, kXerialVersion);
  size_t used = kXerialHeaderSize;
  while (!input.empty()) {
    const Bytes block = input.first(std::min(input.size(), kBlockSize));
    input.remove_prefix(block.size());
    size_t size = 0;
    snappy::RawCompress(Chars(block.data()), block.size(), Chars(out.data() + used + sizeof(int32_t)), &size);
    StoreBigEndian(out.data() + used, static_cast<int32_t>(size));
    used += sizeof(int32_t) + size;
  }
  out.resize(used);
  return absl::OkStatus();
}

absl::Status DecompressSnappy(Bytes input, size_t limit, ByteBuffer& out) {
  out.clear();
  if (!IsXerial(input)) {
    RETURN_IF_ERROR(AppendBlock(input, limit, out));
    out.reserve(out.size() + kTailPadding);
    return absl::OkStatus();
  }
  input.remove_prefix(kXerialHeaderSize);
  while (!input.empty()) {
    if (input.size() < sizeof(int32_t)) return Damaged("snappy");
    const auto size = LoadBigEndian<int32_t>(input.data());
    input.remove_prefix(sizeof(int32_t));
    if (size < 0 || static_cast<size_t>(size) > input.size()) return Damaged("snappy");
    RETURN_IF_ERROR(AppendBlock(input.first(static_cast<size_t>(size)), limit, out));
    input.remove_prefix(static_cast<size_t>(size));
  }
  out.reserve(out.size() + kTailPadding);
  return absl::OkStatus();
}

}  // namespace kveil::kafka::codecs
