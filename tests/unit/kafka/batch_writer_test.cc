// Rebuilding batches.
#include "kafka/batch_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "batch_builder.h"

namespace kveil::kafka {
namespace {

using testing::BatchBytes;
using testing::TestBatch;
using testing::TestRecord;

const std::vector<TestRecord> kRecords = {
    {.key = "k1",
     .value = "v1",
     .headers = {{"a", "1"}, {"kveil", "x"}, {"b", "2"}, {"kveil", "y"}},
     .timestampDelta = -5},
    {.key = std::nullopt, .value = std::string(300, 'x'), .timestampDelta = int64_t{1} << 40},
    {.key = std::string(40, 'k'), .value = std::nullopt},
};
const TestBatch kBatch = {.baseOffset = 1000, .attributes = 0x58};

BatchView View(const ByteBuffer& bytes, size_t skip = 0) {
  BatchView batch;
  BatchReader reader(Bytes(bytes).subspan(skip));
  EXPECT_EQ(reader.Next(batch), BatchReader::Result::kBatch);
  EXPECT_TRUE(reader.rest().empty());
  EXPECT_TRUE(CheckCrc(batch).ok());
  return batch;
}

// Rebuilds the batch, each record by `rewrite(writer, record, index)`.
template <class Rewrite>
ByteBuffer Rebuild(const ByteBuffer& bytes, Codec codec, Rewrite rewrite) {
  const BatchView batch = View(bytes);
  ByteBuffer out;
  BatchWriter writer;
  writer.Begin(batch.header, out);
  RecordReader reader(batch.payload, batch.header.count);
  RecordView record;
  for (int i = 0; reader.Next(record); ++i) rewrite(writer, record, i);
  EXPECT_TRUE(reader.status().ok());
  EXPECT_TRUE(writer.Finish(codec).ok());
  return out;
}

void WriteValue(BatchWriter& writer, const RecordView& record, const HeaderEdit& edit, std::string_view value) {
  std::memcpy(writer.AddRecord(record, value.size(), edit), value.data(), value.size());
}

void KeepRecord(BatchWriter& writer, const RecordView& record, const HeaderEdit& edit = HeaderEdit::Keep()) {
  if (record.value.has_value()) {
    WriteValue(writer, record, edit, AsText(*record.value));
  } else {
    writer.CopyRecord(record);
  }
}

TEST(BatchWriterTest, ABatchRebuiltUnchangedIsTheSameBytes) {
  const ByteBuffer bytes = BatchBytes(kBatch, kRecords);
  EXPECT_EQ(Rebuild(bytes, Codec::kNone, [](auto& writer, const auto& record, int) { KeepRecord(writer, record); }),
            bytes);
  EXPECT_EQ(Rebuild(bytes, Codec::kNone, [](auto& writer, const auto& record, int) { writer.CopyRecord(record); }),
            bytes);
}

TEST(BatchWriterTest, HeaderEditsDoWhatTheySay) {
  const ByteBuffer bytes = BatchBytes(kBatch, kRecords);
  std::vector<TestRecord> expected = kRecords;
  const std::string envelope(57, 'e');

  for (TestRecord& record : expected) {
    if (record.value.has_value()) record.headers.push_back({"kveil", envelope});
  }
  EXPECT_EQ(Rebuild(bytes, Codec::kNone,
                    [&](auto& writer, const auto& record, int) {
                      KeepRecord(writer, record, HeaderEdit::Append("kveil", AsBytes(envelope)));
                    }),
            BatchBytes(kBatch, expected));
  const std::string whole = "\x0Akveil\x72" + envelope;
  EXPECT_EQ(Rebuild(bytes, Codec::kNone,
                    [&](auto& writer, const auto& record, int) {
                      KeepRecord(writer, record, HeaderEdit::AppendWhole(AsBytes(whole)));
                    }),
            BatchBytes(kBatch, expected));

  expected = kRecords;
  expected[0].headers = {{"a", "1"}, {"kveil", "x"}, {"b", "2"}};
  EXPECT_EQ(Rebuild(bytes, Codec::kNone,
                    [](auto& writer, const auto& record, int index) {
                      HeaderEdit edit = HeaderEdit::Keep();
                      HeaderReader headers(record);
                      for (HeaderView header; headers.Next(header);) edit = HeaderEdit::Remove(header.whole);
                      KeepRecord(writer, record, index == 0 ? edit : HeaderEdit::Keep());
                    }),
            BatchBytes(kBatch, expected));

  expected[0].headers = {{"a", "1"}, {"kveil", "x"}, {"b", "2"}, {"instead", "here"}};
  EXPECT_EQ(Rebuild(bytes, Codec::kNone,
                    [](auto& writer, const auto& record, int index) {
                      HeaderEdit edit = HeaderEdit::Keep();
                      HeaderReader headers(record);
                      for (HeaderView header; headers.Next(header);) {
                        edit = HeaderEdit::Exchange(header.whole, "instead", AsBytes("here"));
                      }
                      KeepRecord(writer, record, index == 0 ? edit : HeaderEdit::Keep());
                    }),
            BatchBytes(kBatch, expected));
}

TEST(BatchWriterTest, ValuesOfEverySizeAroundTheVarintSteps) {
  const ByteBuffer bytes = BatchBytes(kBatch, std::vector<TestRecord>{{.key = "key", .value = "v"}});
  for (const size_t size : {0, 1, 7, 8, 16, 17, 32, 33, 50, 55, 56, 57, 63, 64, 8180, 8191, 8192, 100000, 1100000}) {
    const std::string value(size, 'z');
    EXPECT_EQ(
        Rebuild(bytes, Codec::kNone,
                [&](auto& writer, const auto& record, int) { WriteValue(writer, record, HeaderEdit::Keep(), value); }),
        BatchBytes(kBatch, std::vector<TestRecord>{{.key = "key", .value = value}}))
        << size;
  }
}

TEST(BatchWriterTest, RecordsMayBeLeftOutWithoutMovingTheOthers) {
  const ByteBuffer bytes = BatchBytes(kBatch, kRecords);
  const ByteBuffer out = Rebuild(bytes, Codec::kNone, [](auto& writer, const auto& record, int index) {
    if (index == 0) writer.CopyRecord(record);
  });
  const BatchView batch = View(out);
  EXPECT_EQ(batch.header.count, 1);
  EXPECT_EQ(batch.header.lastOffsetDelta, 2);
  BatchHeader expected = View(bytes).header;
  expected.count = batch.header.count;
  expected.length = batch.header.length;
  expected.crc = batch.header.crc;
  EXPECT_EQ(batch.header, expected);
}

TEST(BatchWriterTest, CompressesWithEveryCodecAndKeepsTheOtherAttributes) {
  const ByteBuffer bytes = BatchBytes(kBatch, kRecords);
  for (const Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    const ByteBuffer out =
        Rebuild(bytes, codec, [](auto& writer, const auto& record, int) { writer.CopyRecord(record); });
    const BatchView batch = View(out);
    EXPECT_EQ(batch.header.codec(), codec);
    EXPECT_EQ(batch.header.attributes & ~BatchHeader::kCodecMask, kBatch.attributes);
    ByteBuffer scratch;
    EXPECT_EQ(UncompressedRecords(batch, 1 << 20, scratch).value(), View(bytes).payload) << CodecName(codec);
  }
}

TEST(BatchWriterTest, AppendsToWhatIsThere) {
  const ByteBuffer bytes = BatchBytes(kBatch, kRecords);
  const BatchView batch = View(bytes);
  ByteBuffer out;
  BatchWriter writer;
  for (int i = 0; i < 3; ++i) {
    writer.Begin(batch.header, out);
    RecordReader reader(batch.payload, batch.header.count);
    for (RecordView record; reader.Next(record);) writer.CopyRecord(record);
    ASSERT_TRUE(writer.Finish(Codec::kNone).ok());
    EXPECT_EQ(out.size(), bytes.size() * static_cast<size_t>(i + 1));
    EXPECT_GE(out.capacity(), out.size() + kTailPadding);
    EXPECT_EQ(Bytes(out).last(bytes.size()), Bytes(bytes));
  }
}

TEST(BatchWriterTest, ABatchWithoutRecordsIsRefusedAndLeavesTheOutputAsItWas) {
  const ByteBuffer bytes = BatchBytes(kBatch, kRecords);
  ByteBuffer out(10, 1);
  BatchWriter writer;
  writer.Begin(View(bytes).header, out);
  EXPECT_EQ(writer.Finish(Codec::kNone).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(out, ByteBuffer(10, 1));
  RecordView record;
  ASSERT_TRUE(RecordReader(View(bytes).payload, 3).Next(record));
  writer.Begin(View(bytes).header, out);
  writer.CopyRecord(record);
  writer.Abandon();
  EXPECT_EQ(out, ByteBuffer(10, 1));
  writer.Begin(View(bytes).header, out);
  writer.CopyRecord(record);
  EXPECT_EQ(writer.Finish(static_cast<Codec>(6)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(out, ByteBuffer(10, 1));
}

TEST(ControlFillerTest, IsACommitMarkerOfNoProducerAtTheSameOffsets) {
  for (const int32_t lastOffsetDelta : {0, 9, 64, 100000, 2000000000}) {
    BatchHeader hidden;
    hidden.baseOffset = 500;
    hidden.partitionLeaderEpoch = 12;
    hidden.attributes =
        BatchHeader::kLogAppendTimeBit | BatchHeader::kTransactionalBit | static_cast<int>(Codec::kZstd);
    hidden.lastOffsetDelta = lastOffsetDelta;
    hidden.baseTimestamp = 1000;
    hidden.maxTimestamp = 2000;
    hidden.producerId = 99;
    hidden.producerEpoch = 1;
    hidden.baseSequence = 17;
    hidden.count = 10;
    ByteBuffer out(3, 7);
    AppendControlFiller(hidden, out);
    const BatchView batch = View(out, 3);
    EXPECT_EQ(batch.header.baseOffset, 500);
    EXPECT_EQ(batch.header.lastOffsetDelta, lastOffsetDelta);
    EXPECT_EQ(batch.header.partitionLeaderEpoch, 12);
    EXPECT_EQ(batch.header.attributes, BatchHeader::kControlBit | BatchHeader::kLogAppendTimeBit);
    EXPECT_EQ(batch.header.producerId, -1);
    EXPECT_EQ(batch.header.producerEpoch, -1);
    EXPECT_EQ(batch.header.baseSequence, -1);
    EXPECT_EQ(batch.header.count, 1);
    EXPECT_EQ(batch.header.maxTimestamp, 2000);
    RecordReader reader(batch.payload, 1);
    RecordView record;
    ASSERT_TRUE(reader.Next(record)) << reader.status();
    EXPECT_EQ(record.offsetDelta, lastOffsetDelta);
    EXPECT_EQ(AsText(*record.key), std::string_view("\0\0\0\1", 4));
    EXPECT_EQ(AsText(*record.value), std::string_view("\0\0\0\0\0\0", 6));
    EXPECT_EQ(record.headerCount, 0);
    EXPECT_FALSE(reader.Next(record));
    EXPECT_TRUE(reader.status().ok()) << reader.status();
    EXPECT_EQ(MakeControlFiller(hidden), ByteBuffer(out.begin() + 3, out.end()));
  }
}

}  // namespace
}  // namespace kveil::kafka
