// lz4 frames. Java's reader takes only independent blocks and frame version 1, and reads one frame a batch.
#include <lz4frame.h>

#include "kafka/codecs/codecs.h"

namespace kveil::kafka::codecs {
namespace {

constexpr size_t kUsualRatio = 4;

struct DecompressionContext {
  DecompressionContext() { ok = !LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)); }
  ~DecompressionContext() { LZ4F_freeDecompressionContext(context); }
  LZ4F_dctx* context = nullptr;
  bool ok;
};

}  // namespace

absl::Status CompressLz4(Bytes input, ByteBuffer& out) {
  LZ4F_preferences_t preferences = {};
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  out.resize(LZ4F_compressFrameBound(input.size(), &preferences));
  const size_t size = LZ4F_compressFrame(out.data(), out.size(), input.data(), input.size(), &preferences);
  if (LZ4F_isError(size)) return absl::InternalError("lz4: the frame could not be written");
  out.resize(size);
  return absl::OkStatus();
}

absl::Status DecompressLz4(Bytes input, size_t limit, ByteBuffer& out) {
  thread_local DecompressionContext context;
  if (!context.ok) return absl::InternalError("lz4: no memory");
  LZ4F_resetDecompressionContext(context.context);
  BoundedOutput output(out, limit, kUsualRatio * input.size());
  for (;;) {
    const MutableBytes room = output.Room();
    if (room.empty()) return BeyondLimit();
    size_t written = room.size();
    size_t read = input.size();
    const size_t expected = LZ4F_decompress(context.context, room.data(), &written, input.data(), &read, nullptr);
    if (LZ4F_isError(expected)) return Damaged("lz4");
    output.Commit(written);
    input.remove_prefix(read);
    if (expected == 0) return input.empty() ? output.Finish() : Damaged("lz4");
    if (read == 0 && written == 0) return Damaged("lz4");  // cut short
  }
}

}  // namespace kveil::kafka::codecs
