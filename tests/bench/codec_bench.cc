// What clients' codecs cost, and what sealing does to the size of compressed topics.
//
//   build/release/codec_bench [--benchmark_filter=...]
//
// BM_Seal, BM_Open: a batch of click records that a client compressed, sealed and opened with a topic's key:
// decompressed, sealed, compressed again. In the same loop, by turns, the floor: the libraries, with contexts that are
// kept, decompress what came and compress what goes. Arguments: the codec, and the policy's "compress". Counters, of
// the thread's CPU:
//   agent_us, floor_us  per batch
//   ratio               agent / floor
// BM_Size: bytes per record, at the broker and with everything Kafka adds, and nanoseconds per record to make them. The
// batch is compressed by zstd, by values that are compressed one by one, and so on: the label says which.
#include <benchmark/benchmark.h>
#include <lz4frame.h>
#include <snappy.h>
#include <zdict.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <ctime>
#include <memory>

#include "clicks.h"
#include "kafka/compression.h"
#include "sealing.h"

namespace kveil::guard {
namespace {

using kafka::Codec;

constexpr size_t kBatchBytes = 128 * 1024;  // of values
constexpr int kZlibLevel = 1;               // agent/kafka/codecs has the same levels
constexpr int kZstdLevel = 1;
constexpr size_t kDictionarySize = 16 << 10;
constexpr size_t kTrainingRecords = 4000;

constexpr std::array kCompress{"auto", "never", "always"};

// With a topic's key.
class TopicNode : public Node {
 public:
  explicit TopicNode(const std::string& compress)
      : Node(
            false, R"([{"any": true}])", [](size_t) { return nullptr; }, R"(, "compress": ")" + compress + "\"") {}
};

double ThreadCpu() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// As many as come to kBatchBytes.
std::vector<std::string> BatchOfClicks(Clicks clicks) {
  std::vector<std::string> values;
  for (size_t bytes = 0; bytes < kBatchBytes; bytes += values.back().size()) values.push_back(clicks.Next());
  return values;
}

ByteBuffer BatchOf(const std::vector<std::string>& values, Codec codec) {
  kafka::BatchHeader header;
  header.attributes = static_cast<int16_t>(codec);
  return kafka::MakeBatch(
      static_cast<int32_t>(values.size()),
      [&](int32_t i) -> const std::string& { return values[static_cast<size_t>(i)]; }, header);
}

Bytes PayloadOf(const ByteBuffer& batch) { return Bytes(batch).subspan(kafka::kBatchHeaderSize); }

// The libraries alone: into buffers that are large enough, by contexts that were used before.
class Libraries {
 public:
  explicit Libraries(Codec codec) : codec_(codec) {
    LZ4F_createDecompressionContext(&lz4_, LZ4F_VERSION);
    deflateInit2(&deflater_, kZlibLevel, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    inflateInit2(&inflater_, 15 + 16);
  }
  ~Libraries() {
    LZ4F_freeDecompressionContext(lz4_);
    deflateEnd(&deflater_);
    inflateEnd(&inflater_);
  }

  void Decompress(Bytes from) {
    size_t size = into_.size(), read = from.size();
    switch (codec_) {
      case Codec::kGzip:
        inflateReset(&inflater_);
        SetStream(inflater_, from);
        if (inflate(&inflater_, Z_FINISH) != Z_STREAM_END) abort();
        break;
      case Codec::kSnappy:
        from.remove_prefix(kXerialHeaderSize + sizeof(int32_t));  // one block, as the batch is shorter than it may be
        if (!snappy::RawUncompress(Chars(from), from.size(), reinterpret_cast<char*>(into_.data()))) abort();
        break;
      case Codec::kLz4:
        if (LZ4F_decompress(lz4_, into_.data(), &size, from.data(), &read, nullptr) != 0) abort();
        break;
      default:
        if (ZSTD_isError(ZSTD_decompressDCtx(zstdOpener_.get(), into_.data(), size, from.data(), read))) abort();
    }
  }

  void Compress(Bytes from) {
    size_t size = into_.size();
    LZ4F_preferences_t preferences = {};
    preferences.frameInfo.blockSizeID = LZ4F_max64KB;
    preferences.frameInfo.blockMode = LZ4F_blockIndependent;
    switch (codec_) {
      case Codec::kGzip:
        deflateReset(&deflater_);
        SetStream(deflater_, from);
        if (deflate(&deflater_, Z_FINISH) != Z_STREAM_END) abort();
        break;
      case Codec::kSnappy:
        snappy::RawCompress(Chars(from), from.size(), reinterpret_cast<char*>(into_.data()), &size);
        break;
      case Codec::kLz4:
        if (LZ4F_isError(LZ4F_compressFrame(into_.data(), size, from.data(), from.size(), &preferences))) abort();
        break;
      default:
        size = ZSTD_compressCCtx(zstd_.get(), into_.data(), size, from.data(), from.size(), kZstdLevel);
        if (ZSTD_isError(size)) abort();
    }
  }

 private:
  static constexpr size_t kXerialHeaderSize = 16;
  static const char* Chars(Bytes bytes) { return reinterpret_cast<const char*>(bytes.data()); }
  void SetStream(z_stream& stream, Bytes from) {
    stream.next_in = const_cast<uint8_t*>(from.data());
    stream.avail_in = static_cast<uInt>(from.size());
    stream.next_out = into_.data();
    stream.avail_out = static_cast<uInt>(into_.size());
  }

  const Codec codec_;
  std::vector<uint8_t> into_ = std::vector<uint8_t>(4 * kBatchBytes);
  z_stream deflater_ = {};
  z_stream inflater_ = {};
  LZ4F_dctx* lz4_ = nullptr;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> zstd_{ZSTD_createCCtx(), &ZSTD_freeCCtx};
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> zstdOpener_{ZSTD_createDCtx(), &ZSTD_freeDCtx};
};

// Runs both by turns. `from` is what came; `to` the records of what goes, not compressed.
template <typename Agent>
void Compare(benchmark::State& state, Codec codec, Bytes from, Bytes to, const Agent& agent) {
  Libraries libraries(codec);
  double agentSeconds = 0, floorSeconds = 0;
  for (auto _ : state) {
    const double begun = ThreadCpu();
    agent();
    const double between = ThreadCpu();
    libraries.Decompress(from);
    libraries.Compress(to);
    floorSeconds += ThreadCpu() - between;
    agentSeconds += between - begun;
    state.SetIterationTime(between - begun);
  }
  const double batches = static_cast<double>(state.iterations());
  state.counters["agent_us"] = agentSeconds * 1e6 / batches;
  state.counters["floor_us"] = floorSeconds * 1e6 / batches;
  state.counters["ratio"] = agentSeconds / floorSeconds;
  state.SetLabel(std::string(kafka::CodecName(codec)) + ", " + kCompress[static_cast<size_t>(state.range(1))]);
}

void SealOrDie(Node& node, const ByteBuffer& produced, ByteBuffer& out) {
  if (Seal(node, produced, out).kind != SealOutcome::Kind::kSealed) abort();
}
void OpenOrDie(Node& node, const ByteBuffer& sealed, ByteBuffer& out) {
  if (Open(node, sealed, out).kind != OpenOutcome::Kind::kRewritten) abort();
}

// The records of a batch.
ByteBuffer Uncompressed(const ByteBuffer& batch) {
  ByteBuffer records;
  kafka::BatchView view;
  if (kafka::BatchReader(batch).Next(view) != kafka::BatchReader::Result::kBatch) abort();
  if (!kafka::Decompress(view.header.codec(), view.payload, 16 << 20, records).ok()) abort();
  return records;
}

void BM_Seal(benchmark::State& state) {
  const auto codec = static_cast<Codec>(state.range(0));
  TopicNode node(kCompress[static_cast<size_t>(state.range(1))]);
  const ByteBuffer produced = BatchOf(BatchOfClicks(Clicks(true)), codec);
  ByteBuffer sealed;
  SealFetching(node, produced, sealed);
  const ByteBuffer goes = Uncompressed(sealed);
  Compare(state, codec, PayloadOf(produced), goes, [&] { SealOrDie(node, produced, sealed); });
}
BENCHMARK(BM_Seal)->ArgsProduct({{1, 2, 3, 4}, {0, 1, 2}})->UseManualTime()->Unit(benchmark::kMicrosecond);

void BM_Open(benchmark::State& state) {
  const auto codec = static_cast<Codec>(state.range(0));
  TopicNode node(kCompress[static_cast<size_t>(state.range(1))]);
  const ByteBuffer produced = BatchOf(BatchOfClicks(Clicks(true)), codec);
  ByteBuffer sealed, opened;
  SealFetching(node, produced, sealed);
  sealed.reserve(sealed.size() + kafka::kTailPadding);
  const ByteBuffer goes = Uncompressed(produced);
  Compare(state, codec, PayloadOf(sealed), goes, [&] { OpenOrDie(node, sealed, opened); });
}
BENCHMARK(BM_Open)->ArgsProduct({{1, 2, 3, 4}, {0, 1, 2}})->UseManualTime()->Unit(benchmark::kMicrosecond);

// A dictionary of a topic's values, trained as `zstd --train` does it.
class Dictionary {
 public:
  explicit Dictionary(const std::vector<std::string>& samples) {
    std::string all;
    std::vector<size_t> sizes;
    for (const std::string& sample : samples) {
      all += sample;
      sizes.push_back(sample.size());
    }
    std::vector<uint8_t> trained(kDictionarySize);
    const size_t size = ZDICT_trainFromBuffer(trained.data(), trained.size(), all.data(), sizes.data(),
                                              static_cast<unsigned>(sizes.size()));
    if (ZDICT_isError(size)) abort();
    dictionary_.reset(ZSTD_createCDict(trained.data(), size, kZstdLevel));
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_dictIDFlag, 0);
    ZSTD_CCtx_refCDict(context_.get(), dictionary_.get());
  }

  std::string Compressed(const std::string& value) {
    std::string out(ZSTD_compressBound(value.size()), '\0');
    const size_t size = ZSTD_compress2(context_.get(), out.data(), out.size(), value.data(), value.size());
    if (ZSTD_isError(size)) abort();
    out.resize(size);
    return out;
  }

 private:
  std::unique_ptr<ZSTD_CDict, decltype(&ZSTD_freeCDict)> dictionary_{nullptr, &ZSTD_freeCDict};
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context_{ZSTD_createCCtx(), &ZSTD_freeCCtx};
};

// How the records of a topic get to the broker.
enum class Form {
  kClear,             // as they are
  kClearZstd,         // compressed by the client
  kSealed,            // as they are, sealed
  kSealedZstd,        // compressed by the client; sealed with "compress": "never"
  kSealedValues,      // the same with "always": each value is compressed by itself before it is sealed
  kSealedDictionary,  // what it would be with a dictionary for the values. Opening such values does not exist
};
constexpr std::array kFormNames{"clear",        "clear, zstd",          "sealed",
                                "sealed, zstd", "sealed, zstd, values", "sealed, zstd, values by dictionary"};

// Arguments: whether the records are the long ones; the form.
void BM_Size(benchmark::State& state) {
  const bool areLong = state.range(0) == 1;
  const auto form = static_cast<Form>(state.range(1));
  Clicks clicks(areLong);
  Dictionary dictionary(clicks.Next(kTrainingRecords));
  const std::vector<std::string> values = BatchOfClicks(clicks);
  const Codec codec = form == Form::kClear || form == Form::kSealed ? Codec::kNone : Codec::kZstd;
  TopicNode node(form == Form::kSealedValues ? "always" : "never");
  const ByteBuffer produced = BatchOf(values, codec);
  ByteBuffer out;
  SealFetching(node, produced, out);
  std::vector<std::string> compressed;
  for (auto _ : state) {
    switch (form) {
      case Form::kClear:
      case Form::kClearZstd:
        out = BatchOf(values, codec);
        break;
      case Form::kSealedDictionary:
        compressed.clear();
        for (const std::string& value : values) compressed.push_back(dictionary.Compressed(value));
        SealOrDie(node, BatchOf(compressed, codec), out);
        break;
      default:
        SealOrDie(node, produced, out);
    }
  }
  const auto records = static_cast<double>(values.size());
  state.counters["bytes_per_record"] = static_cast<double>(out.size()) / records;
  state.counters["per_record"] = benchmark::Counter(static_cast<double>(state.iterations()) * records,
                                                    benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetLabel(kFormNames[static_cast<size_t>(form)]);
}
BENCHMARK(BM_Size)->ArgsProduct({{1, 0}, benchmark::CreateDenseRange(0, kFormNames.size() - 1, 1)});

}  // namespace
}  // namespace kveil::guard

BENCHMARK_MAIN();
