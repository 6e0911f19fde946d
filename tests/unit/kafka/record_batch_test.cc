// Reading batches, records and record headers in place.
#include "kafka/record_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/crc32c.h"
#include "batch_builder.h"

namespace kveil::kafka {
namespace {

using testing::BatchBytes;
using ::testing::HasSubstr;
using testing::RecordBytes;
using testing::RecordsBytes;
using testing::TestBatch;
using testing::TestRecord;
using Result = BatchReader::Result;

const std::vector<TestRecord> kThreeRecords = {
    {.key = "k1",
     .value = "v1",
     .headers = {{"trace", "1"}, {"empty", ""}, {"none", std::nullopt}},
     .timestampDelta = -5},
    {.key = std::nullopt, .value = std::string(300, 'x'), .timestampDelta = int64_t{1} << 40},
    {.key = "", .value = std::nullopt},
};

TEST(Crc32cTest, IsTheCastagnoliChecksum) {
  EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xe3069283u);
  EXPECT_EQ(Crc32c(Bytes()), 0u);
}

TEST(BatchReaderTest, ReadsEveryFieldOfTheHeader) {
  const TestBatch expected = {.baseOffset = 123456789012, .attributes = 0x78};
  const ByteBuffer bytes = BatchBytes(expected, kThreeRecords);
  BatchReader reader(bytes);
  BatchView batch;
  ASSERT_EQ(reader.Next(batch), Result::kBatch);
  EXPECT_EQ(batch.header.baseOffset, expected.baseOffset);
  EXPECT_EQ(batch.header.partitionLeaderEpoch, expected.leaderEpoch);
  EXPECT_EQ(batch.header.magic, 2);
  EXPECT_EQ(batch.header.lastOffsetDelta, 2);
  EXPECT_EQ(batch.header.lastOffset(), expected.baseOffset + 2);
  EXPECT_EQ(batch.header.baseTimestamp, expected.baseTimestamp);
  EXPECT_EQ(batch.header.maxTimestamp, expected.maxTimestamp);
  EXPECT_EQ(batch.header.producerId, expected.producerId);
  EXPECT_EQ(batch.header.producerEpoch, expected.producerEpoch);
  EXPECT_EQ(batch.header.baseSequence, expected.baseSequence);
  EXPECT_EQ(batch.header.count, 3);
  EXPECT_EQ(batch.header.codec(), Codec::kNone);
  EXPECT_TRUE(batch.header.isLogAppendTime());
  EXPECT_TRUE(batch.header.isTransactional());
  EXPECT_TRUE(batch.header.isControl());
  EXPECT_TRUE(batch.header.hasDeleteHorizon());
  EXPECT_TRUE(CheckCrc(batch).ok());
  EXPECT_EQ(batch.whole, Bytes(bytes));
  EXPECT_EQ(batch.payload, Bytes(bytes).subspan(kBatchHeaderSize));
  EXPECT_EQ(reader.Next(batch), Result::kEnd);
}

TEST(BatchReaderTest, AStoredHeaderIsTheSameBytes) {
  const ByteBuffer bytes = BatchBytes({.baseOffset = 5}, kThreeRecords);
  BatchReader reader(bytes);
  BatchView batch;
  ASSERT_EQ(reader.Next(batch), Result::kBatch);
  ByteBuffer stored(kBatchHeaderSize);
  StoreBatchHeader(batch.header, stored.data());
  EXPECT_EQ(Bytes(stored), Bytes(bytes).first(kBatchHeaderSize));
}

TEST(BatchReaderTest, APartialBatchAtTheEndIsNoError) {
  ByteBuffer bytes = BatchBytes({}, kThreeRecords);
  const size_t whole = bytes.size();
  bytes.insert(bytes.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(whole));
  for (size_t size = whole + 1; size < bytes.size(); ++size) {
    BatchReader reader(Bytes(bytes.data(), size));
    BatchView batch;
    ASSERT_EQ(reader.Next(batch), Result::kBatch);
    ASSERT_EQ(reader.Next(batch), Result::kPartial) << size;
    EXPECT_EQ(reader.rest().size(), size - whole);
    EXPECT_TRUE(reader.status().ok());
  }
}

TEST(BatchReaderTest, MessagesFromBeforeKafka011AreRecognised) {
  for (const int8_t magic : {0, 1}) {
    ByteBuffer bytes;
    testing::PutBigEndian(bytes, 42, 8);
    testing::PutBigEndian(bytes, 22, 4);
    bytes.resize(bytes.size() + 22);
    bytes[16] = static_cast<uint8_t>(magic);
    const ByteBuffer modern = BatchBytes({}, kThreeRecords);
    bytes.insert(bytes.end(), modern.begin(), modern.end());
    BatchReader reader(bytes);
    BatchView batch;
    ASSERT_EQ(reader.Next(batch), Result::kBatch);
    EXPECT_TRUE(batch.isLegacy());
    EXPECT_EQ(batch.header.magic, magic);
    EXPECT_EQ(batch.header.baseOffset, 42);
    EXPECT_EQ(batch.whole.size(), 34u);
    EXPECT_TRUE(batch.payload.empty());
    ASSERT_EQ(reader.Next(batch), Result::kBatch);
    EXPECT_FALSE(batch.isLegacy());
  }
}

TEST(BatchReaderTest, ABadLengthOrMagicIsMalformedForGood) {
  for (const auto& [offset, value] : {std::pair<size_t, uint8_t>{8, 0x80}, {10, 0}, {16, 3}}) {
    ByteBuffer bytes = BatchBytes({}, {{.value = "v"}});
    bytes[offset] = value;
    if (offset == 10) bytes[11] = 48;
    BatchReader reader(bytes);
    BatchView batch;
    EXPECT_EQ(reader.Next(batch), Result::kMalformed);
    EXPECT_EQ(reader.Next(batch), Result::kMalformed);
    EXPECT_EQ(reader.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(BatchReaderTest, AFlippedBitAnywhereUnderTheCrcIsFound) {
  const ByteBuffer good = BatchBytes({}, kThreeRecords);
  for (size_t i = kBatchCrcStart; i < good.size(); ++i) {
    ByteBuffer bytes = good;
    bytes[i] ^= 0x10;
    BatchView batch;
    ASSERT_EQ(BatchReader(bytes).Next(batch), Result::kBatch);
    EXPECT_EQ(CheckCrc(batch).code(), absl::StatusCode::kDataLoss) << i;
  }
}

TEST(RecordReaderTest, ReadsKeysValuesHeadersAndNulls) {
  const ByteBuffer bytes = RecordsBytes(kThreeRecords);
  RecordReader reader(bytes, 3);
  RecordView record;
  ASSERT_TRUE(reader.Next(record));
  EXPECT_EQ(AsText(*record.key), "k1");
  EXPECT_EQ(AsText(*record.value), "v1");
  EXPECT_EQ(record.headerCount, 3);
  HeaderReader headers(record);
  HeaderView header;
  ASSERT_TRUE(headers.Next(header));
  EXPECT_EQ(header.key, "trace");
  EXPECT_EQ(AsText(*header.value), "1");
  EXPECT_EQ(header.whole.size(), 1 + 5 + 1 + 1u);
  ASSERT_TRUE(headers.Next(header));
  EXPECT_EQ(header.value, Bytes());
  ASSERT_TRUE(headers.Next(header));
  EXPECT_EQ(header.value, std::nullopt);
  EXPECT_FALSE(headers.Next(header));
  EXPECT_TRUE(headers.status().ok());
  ASSERT_TRUE(reader.Next(record));
  EXPECT_EQ(record.key, std::nullopt);
  EXPECT_EQ(record.value->size(), 300u);
  EXPECT_EQ(record.timestampDelta.size(), 6u);
  EXPECT_EQ(record.whole, Bytes(RecordBytes(kThreeRecords[1])));
  ASSERT_TRUE(reader.Next(record));
  EXPECT_EQ(record.key, Bytes());
  EXPECT_EQ(record.value, std::nullopt);
  EXPECT_FALSE(reader.Next(record));
  EXPECT_TRUE(reader.status().ok()) << reader.status();
}

absl::Status ReadAll(Bytes bytes, int32_t count) {
  RecordReader reader(bytes, count);
  RecordView record;
  while (reader.Next(record)) {
    HeaderReader headers(record);
    HeaderView header;
    while (headers.Next(header)) {
    }
    if (!headers.status().ok()) return headers.status();
  }
  return reader.status();
}

TEST(RecordReaderTest, FewerOrMoreRecordsThanTheCountAreRefused) {
  const ByteBuffer bytes = RecordsBytes(kThreeRecords);
  EXPECT_TRUE(ReadAll(bytes, 3).ok());
  EXPECT_THAT(std::string(ReadAll(bytes, 2).message()), HasSubstr("left after the last record"));
  EXPECT_THAT(std::string(ReadAll(bytes, 4).message()), HasSubstr("fewer records"));
  EXPECT_FALSE(ReadAll(bytes, -1).ok());
  EXPECT_TRUE(ReadAll(Bytes(), 0).ok());
}

TEST(RecordReaderTest, CutShortAnywhereIsRefused) {
  const ByteBuffer bytes = RecordsBytes(kThreeRecords);
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy of just that size, so that a sanitizer sees a read beyond it.
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(ReadAll(cut, 3).ok()) << size;
  }
}

TEST(RecordReaderTest, LengthsThatDoNotFitTheRecordAreRefused) {
  const ByteBuffer good = RecordBytes({.key = "key", .value = "value", .headers = {{"h", "x"}}});
  // length, attributes, timestamp delta, offset delta, key length 3, key, value length 5, value, header count 1, ...
  const struct {
    size_t at;
    uint8_t value;
    const char* problem;
  } cases[] = {{0, 2 * 60, "record length"}, {0, 1, "record length"}, {2, 0x80, "key length"},
               {4, 2 * 30, "key length"},    {4, 3, "key length"},    {8, 2 * 30, "value length"},
               {14, 2 * 9, "header count"},  {14, 1, "header count"}, {14, 0, "header count"},
               {14, 2 * 2, "header key"},    {15, 1, "header key"},   {17, 2 * 9, "header value"}};
  for (const auto& [at, value, problem] : cases) {
    ByteBuffer bytes = good;
    bytes[at] = value;
    const absl::Status status = ReadAll(bytes, 1);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << at;
    EXPECT_THAT(std::string(status.message()), HasSubstr(problem)) << at;
  }
}

TEST(HeaderReaderTest, BytesAfterTheLastHeaderAreRefused) {
  ByteBuffer bytes = RecordBytes({.value = "v", .headers = {{"h", "x"}, {"i", "y"}}});
  RecordView record;
  ASSERT_TRUE(RecordReader(bytes, 1).Next(record));
  HeaderReader headers(record.headers, 1);
  HeaderView header;
  ASSERT_TRUE(headers.Next(header));
  EXPECT_FALSE(headers.Next(header));
  EXPECT_FALSE(headers.status().ok());
}

TEST(UncompressedRecordsTest, AreThePayloadItselfOrWhatItHeldCompressed) {
  const ByteBuffer records = RecordsBytes(kThreeRecords);
  for (const Codec codec : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    ByteBuffer payload;
    ASSERT_TRUE(Compress(codec, records, payload).ok());
    const ByteBuffer bytes = BatchBytes({.attributes = static_cast<int16_t>(codec), .count = 3}, Bytes(payload));
    BatchView batch;
    ASSERT_EQ(BatchReader(bytes).Next(batch), Result::kBatch);
    ByteBuffer scratch;
    const auto read = UncompressedRecords(batch, 1 << 20, scratch);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, Bytes(records)) << CodecName(codec);
    EXPECT_EQ(read->data() == batch.payload.data(), codec == Codec::kNone);
  }
}

}  // namespace
}  // namespace kveil::kafka
