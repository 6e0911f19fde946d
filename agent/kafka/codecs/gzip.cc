// gzip (RFC 1952) by zlib. Members that follow each other are one stream, as Java's GZIPInputStream takes them.
#include <zlib.h>

#include "kafka/codecs/codecs.h"

namespace kveil::kafka::codecs {
namespace {

constexpr int kGzipWindowBits = 15 + 16;  // 15: 32 KiB; +16: gzip header and trailer
// Level 1: what is sealed hardly shrinks, and level 6 costs five times as much.
constexpr int kLevel = 1;
constexpr size_t kUsualRatio = 4;

struct Deflater {
  Deflater() { ok = deflateInit2(&stream, kLevel, Z_DEFLATED, kGzipWindowBits, 8, Z_DEFAULT_STRATEGY) == Z_OK; }
  ~Deflater() { deflateEnd(&stream); }
  z_stream stream = {};
  bool ok;
};

struct Inflater {
  Inflater() { ok = inflateInit2(&stream, kGzipWindowBits) == Z_OK; }
  ~Inflater() { inflateEnd(&stream); }
  z_stream stream = {};
  bool ok;
};

void SetInput(z_stream& stream, Bytes input) {
  stream.next_in = const_cast<uint8_t*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
}

}  // namespace

absl::Status CompressGzip(Bytes input, ByteBuffer& out) {
  thread_local Deflater deflater;
  if (!deflater.ok || deflateReset(&deflater.stream) != Z_OK) return absl::InternalError("gzip: no memory");
  SetInput(deflater.stream, input);
  out.resize(deflateBound(&deflater.stream, input.size()));
  deflater.stream.next_out = out.data();
  deflater.stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&deflater.stream, Z_FINISH) != Z_STREAM_END) return absl::InternalError("gzip: the bound was too small");
  out.resize(out.size() - deflater.stream.avail_out);
  return absl::OkStatus();
}

absl::Status DecompressGzip(Bytes input, size_t limit, ByteBuffer& out) {
  thread_local Inflater inflater;
  z_stream& stream = inflater.stream;
  if (!inflater.ok || inflateReset(&stream) != Z_OK) return absl::InternalError("gzip: no memory");
  SetInput(stream, input);
  BoundedOutput output(out, limit, kUsualRatio * input.size());
  for (;;) {
    const MutableBytes room = output.Room();
    if (room.empty()) return BeyondLimit();
    stream.next_out = room.data();
    stream.avail_out = static_cast<uInt>(room.size());
    const int result = inflate(&stream, Z_NO_FLUSH);
    output.Commit(room.size() - stream.avail_out);
    if (result == Z_STREAM_END) {
      if (stream.avail_in == 0) return output.Finish();
      if (inflateReset(&stream) != Z_OK) return Damaged("gzip");
    } else if (result != Z_OK || (stream.avail_in == 0 && stream.avail_out != 0)) {
      return Damaged("gzip");
    }
  }
}

}  // namespace kveil::kafka::codecs
