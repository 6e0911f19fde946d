// The four codecs on any bytes: bounded output, and what was compressed comes back.
// The first byte picks the codec, the second and third the limit, the rest is decompressed, and compressed.
#include "fuzz.h"
#include "kafka/compression.h"

namespace kveil::fuzz {
namespace {

using kafka::Codec;

// Readable bytes behind the output are promised, and what they hold is of no matter.
void CheckPadding(const ByteBuffer& out) {
  Check(out.capacity() - out.size() >= kafka::kTailPadding, "what was decompressed has readable bytes behind it");
}

void CheckRoundTrip(Codec codec, Bytes content) {
  static ByteBuffer compressed;
  static ByteBuffer out;
  Check(kafka::Compress(codec, content, compressed).ok(), "anything can be compressed");
  const absl::Status whole = kafka::Decompress(codec, compressed, content.size(), out);
  Check(whole.ok() && Bytes(out) == content, "what was compressed comes back, with just room for it");
  CheckPadding(out);
  if (content.empty()) return;
  const absl::Status tooLong = kafka::Decompress(codec, compressed, content.size() - 1, out);
  Check(absl::IsResourceExhausted(tooLong), "one byte beyond the limit is beyond the limit");
}

}  // namespace

void Run(Bytes bytes) {
  static ByteBuffer out;
  Input input(bytes);
  const auto codec = static_cast<Codec>(1 + input.Byte() % 4);
  const size_t limit = 64 * input.Below(1 << 16);
  const absl::Status status = kafka::Decompress(codec, input.rest(), limit, out);
  if (status.ok()) {
    Check(out.size() <= limit, "nothing is decompressed beyond the limit");
    CheckPadding(out);
    const ByteBuffer content = out;
    CheckRoundTrip(codec, content);
  } else {
    Check(absl::IsResourceExhausted(status) || absl::IsInvalidArgument(status), "damaged, or too long, or good");
  }
  CheckRoundTrip(codec, input.rest());
}

}  // namespace kveil::fuzz
