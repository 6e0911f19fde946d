// zstd (RFC 8878). Java writes frames without their content size, so decompression is a stream.
#include <zstd.h>

#include <optional>

#include "kafka/codecs/codecs.h"
#include "kafka/compression.h"

namespace kveil::kafka::codecs {
namespace {

// Not the default of 3: on batches of JSON and on single values it takes nearly twice the time for no better ratio.
constexpr int kLevel = 1;
constexpr size_t kUsualRatio = 4;

struct Contexts {
  ~Contexts() {
    ZSTD_freeCCtx(compression);
    ZSTD_freeDCtx(decompression);
  }
  ZSTD_CCtx* compression = ZSTD_createCCtx();
  ZSTD_DCtx* decompression = ZSTD_createDCtx();
};

Contexts& ThreadContexts() {
  thread_local Contexts contexts;
  return contexts;
}

std::optional<size_t> ContentSize(Bytes input) {
  const unsigned long long size = ZSTD_getFrameContentSize(input.data(), input.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR) return std::nullopt;
  return static_cast<size_t>(size);
}

// One frame that says how long its content is, in one go. False when it is something else.
bool DecompressWhole(ZSTD_DCtx* context, Bytes input, size_t contentSize, ByteBuffer& out) {
  out.reserve(contentSize + kTailPadding);
  out.resize(contentSize);
  const size_t size = ZSTD_decompressDCtx(context, out.data(), out.size(), input.data(), input.size());
  return !ZSTD_isError(size) && size == contentSize;
}

}  // namespace

absl::Status CompressZstd(Bytes input, ByteBuffer& out) {
  ZSTD_CCtx* context = ThreadContexts().compression;
  if (context == nullptr) return absl::InternalError("zstd: no memory");
  out.resize(ZSTD_compressBound(input.size()));
  const size_t size = ZSTD_compressCCtx(context, out.data(), out.size(), input.data(), input.size(), kLevel);
  if (ZSTD_isError(size)) return absl::InternalError("zstd: the frame could not be written");
  out.resize(size);
  return absl::OkStatus();
}

absl::Status DecompressZstd(Bytes input, size_t limit, ByteBuffer& out) {
  ZSTD_DCtx* context = ThreadContexts().decompression;
  if (context == nullptr) return absl::InternalError("zstd: no memory");
  const std::optional<size_t> contentSize = ContentSize(input);
  if (contentSize.has_value() && *contentSize <= limit && DecompressWhole(context, input, *contentSize, out)) {
    return absl::OkStatus();
  }
  ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
  BoundedOutput output(out, limit, contentSize.value_or(kUsualRatio * input.size()));
  ZSTD_inBuffer source = {input.data(), input.size(), 0};
  for (;;) {
    const MutableBytes room = output.Room();
    if (room.empty()) return BeyondLimit();
    const size_t before = source.pos;
    ZSTD_outBuffer target = {room.data(), room.size(), 0};
    const size_t expected = ZSTD_decompressStream(context, &target, &source);
    if (ZSTD_isError(expected)) return Damaged("zstd");
    output.Commit(target.pos);
    if (expected == 0 && source.pos == source.size) return output.Finish();
    if (target.pos == 0 && source.pos == before) return Damaged("zstd");  // cut short
  }
}

}  // namespace kveil::kafka::codecs
