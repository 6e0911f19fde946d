// What a record costs: reading a batch, and writing it again sealed, opened or as it is. Time is a batch's; the counter
// `per_record` divides it. Values are copied where a cipher would write them.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>

#include "base/crc32c.h"
#include "kafka/batch_writer.h"
#include "kafka/compression.h"
#include "kafka/record_batch.h"
#include "kafka/varint.h"

namespace kveil::kafka {
namespace {

constexpr size_t kTagSize = 16;
constexpr size_t kEnvelopeSize = 32;
constexpr size_t kBatchBytes = 128 * 1024;
constexpr size_t kLimit = 16 << 20;

// An uncompressed batch of about kBatchBytes whose values are click records of `valueSize` bytes.
ByteBuffer MakeBatch(size_t valueSize, std::string_view header = {}) {
  ByteBuffer out;
  BatchHeader original;
  original.baseTimestamp = 1700000000000;
  BatchWriter writer;
  writer.Begin(original, out);
  const ByteBuffer envelope(kEnvelopeSize, 0xab);
  for (int32_t i = 0; writer.size() < kBatchBytes; ++i) {
    ByteBuffer prefix(32);
    uint8_t* end = WriteVarint(prefix.data() + 1, i / 4);
    prefix[0] = 0;
    end = WriteVarint(end, i);
    end = WriteVarint(end, -1);
    RecordView record;
    record.beforeValue = Bytes(prefix.data(), static_cast<size_t>(end - prefix.data()));
    std::string value = R"({"ip": "10.1.2.3", "userid": ")" + std::to_string(i % 500) + R"(", "request": "GET /)";
    while (value.size() < valueSize) value += "abcdefghij"[static_cast<size_t>(i + value.size()) % 10];
    uint8_t* to =
        writer.AddRecord(record, valueSize, header.empty() ? HeaderEdit::Keep() : HeaderEdit::Append(header, envelope));
    std::memcpy(to, value.data(), valueSize);
  }
  if (!writer.Finish(Codec::kNone).ok()) std::abort();
  return out;
}

BatchView View(const ByteBuffer& bytes) {
  BatchView batch;
  if (BatchReader(bytes).Next(batch) != BatchReader::Result::kBatch) std::abort();
  return batch;
}

void Report(benchmark::State& state, const BatchView& batch) {
  const auto records = static_cast<double>(state.iterations()) * batch.header.count;
  state.counters["per_record"] = benchmark::Counter(records, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(batch.whole.size()));
}

void BM_Parse(benchmark::State& state) {
  const ByteBuffer bytes = MakeBatch(static_cast<size_t>(state.range(0)));
  const BatchView batch = View(bytes);
  for (auto _ : state) {
    RecordReader reader(batch.payload, batch.header.count);
    size_t values = 0;
    for (RecordView record; reader.Next(record);) values += record.value->size();
    benchmark::DoNotOptimize(values);
  }
  Report(state, batch);
}
BENCHMARK(BM_Parse)->Arg(100)->Arg(1024);

// What sealing asks of this folder: CRC of what came, walk, a longer value and one header more, CRC of what goes.
void BM_RewriteSealed(benchmark::State& state) {
  const ByteBuffer bytes = MakeBatch(static_cast<size_t>(state.range(0)));
  const BatchView batch = View(bytes);
  const ByteBuffer envelope(kEnvelopeSize, 0xab);
  ByteBuffer out;
  BatchWriter writer;
  for (auto _ : state) {
    out.clear();
    if (!CheckCrc(batch).ok()) std::abort();
    writer.Begin(batch.header, out);
    RecordReader reader(batch.payload, batch.header.count);
    for (RecordView record; reader.Next(record);) {
      uint8_t* value = writer.AddRecord(record, record.value->size() + kTagSize, HeaderEdit::Append("kveil", envelope));
      std::memcpy(value, record.value->data(), record.value->size());
    }
    if (!writer.Finish(Codec::kNone).ok()) std::abort();
    benchmark::DoNotOptimize(out.data());
  }
  Report(state, batch);
}
BENCHMARK(BM_RewriteSealed)->Arg(100)->Arg(1024);

// What opening asks: the same with a search for the header and without it in the result.
void BM_RewriteOpened(benchmark::State& state) {
  const ByteBuffer bytes = MakeBatch(static_cast<size_t>(state.range(0)), "kveil");
  const BatchView batch = View(bytes);
  ByteBuffer out;
  BatchWriter writer;
  for (auto _ : state) {
    out.clear();
    if (!CheckCrc(batch).ok()) std::abort();
    writer.Begin(batch.header, out);
    RecordReader reader(batch.payload, batch.header.count);
    for (RecordView record; reader.Next(record);) {
      HeaderReader headers(record);
      HeaderView header;
      while (headers.Next(header) && header.key != "kveil") {
      }
      uint8_t* value = writer.AddRecord(record, record.value->size() - kTagSize, HeaderEdit::Remove(header.whole));
      std::memcpy(value, record.value->data(), record.value->size() - kTagSize);
    }
    if (!writer.Finish(Codec::kNone).ok()) std::abort();
    benchmark::DoNotOptimize(out.data());
  }
  Report(state, batch);
}
BENCHMARK(BM_RewriteOpened)->Arg(100)->Arg(1024);

void BM_Copy(benchmark::State& state) {
  const ByteBuffer bytes = MakeBatch(static_cast<size_t>(state.range(0)));
  const BatchView batch = View(bytes);
  ByteBuffer out;
  BatchWriter writer;
  for (auto _ : state) {
    out.clear();
    writer.Begin(batch.header, out);
    RecordReader reader(batch.payload, batch.header.count);
    for (RecordView record; reader.Next(record);) writer.CopyRecord(record);
    if (!writer.Finish(Codec::kNone).ok()) std::abort();
    benchmark::DoNotOptimize(out.data());
  }
  Report(state, batch);
}
BENCHMARK(BM_Copy)->Arg(100)->Arg(1024);

void BM_Crc32c(benchmark::State& state) {
  const ByteBuffer bytes(static_cast<size_t>(state.range(0)), 0x5a);
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(bytes));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(BM_Crc32c)->Arg(1024)->Arg(kBatchBytes);

void BM_Compress(benchmark::State& state) {
  const ByteBuffer bytes = MakeBatch(100);
  const BatchView batch = View(bytes);
  const auto codec = static_cast<Codec>(state.range(0));
  ByteBuffer out;
  for (auto _ : state) {
    if (!Compress(codec, batch.payload, out).ok()) std::abort();
  }
  state.SetLabel(std::string(CodecName(codec)));
  Report(state, batch);
}
BENCHMARK(BM_Compress)->DenseRange(1, 4);

void BM_Decompress(benchmark::State& state) {
  const ByteBuffer bytes = MakeBatch(100);
  const BatchView batch = View(bytes);
  const auto codec = static_cast<Codec>(state.range(0));
  ByteBuffer compressed;
  ByteBuffer out;
  if (!Compress(codec, batch.payload, compressed).ok()) std::abort();
  for (auto _ : state) {
    if (!Decompress(codec, compressed, kLimit, out).ok()) std::abort();
  }
  state.SetLabel(std::string(CodecName(codec)));
  Report(state, batch);
}
BENCHMARK(BM_Decompress)->DenseRange(1, 4);

}  // namespace
}  // namespace kveil::kafka

BENCHMARK_MAIN();
