// A batch cut into several: what a producer would have written that filled smaller ones.
#include "kafka/batch_split.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "batch_builder.h"

namespace kveil::kafka {
namespace {

using testing::RecordsBytes;
using testing::TestRecord;

class BatchSplitTest : public ::testing::Test {
 protected:
  static TestRecord Record(std::string value, int64_t timestampDelta = 0) {
    TestRecord record;
    record.key = "key of " + value;
    record.value = std::move(value);
    record.headers = {{"trace", "1"}};
    record.timestampDelta = timestampDelta;
    return record;
  }
  BatchPart Part(std::vector<TestRecord> records) {
    for (size_t i = 0; i < records.size(); ++i) records[i].offsetDelta = static_cast<int32_t>(i);
    bytes_ = RecordsBytes(records);
    BatchPart part;
    part.header.count = static_cast<int32_t>(records.size());
    part.header.lastOffsetDelta = part.header.count - 1;
    part.header.producerId = 7;
    part.header.baseSequence = 100;
    part.header.baseTimestamp = 1000;
    part.header.maxTimestamp = 99'999;
    part.records = bytes_;
    return part;
  }
  // Cuts it into parts of so many records and checks that these are the same as before but for the offsets.
  void ExpectParts(const BatchPart& whole, const std::vector<int32_t>& expected) {
    const auto cut = Cut(whole, expected, buffer_);
    ASSERT_TRUE(cut.ok()) << cut.status();
    parts_ = *cut;
    ASSERT_EQ(parts_.size(), expected.size());
    RecordReader before(whole.records, whole.header.count);
    RecordView was;
    for (size_t i = 0; i < parts_.size(); ++i) {
      EXPECT_EQ(parts_[i].header.count, expected[i]);
      EXPECT_EQ(parts_[i].header.lastOffsetDelta, expected[i] - 1);
      RecordReader after(parts_[i].records, parts_[i].header.count);
      RecordView is;
      for (int32_t offset = 0; after.Next(is); ++offset) {
        ASSERT_TRUE(before.Next(was));
        EXPECT_EQ(is.offsetDelta, offset);
        EXPECT_EQ(AsText(*is.key), AsText(*was.key));
        EXPECT_EQ(is.value.has_value(), was.value.has_value());
        EXPECT_EQ(AsText(is.value.value_or(Bytes())), AsText(was.value.value_or(Bytes())));
        EXPECT_EQ(AsText(is.headers), AsText(was.headers));
        EXPECT_EQ(AsText(is.timestampDelta), AsText(was.timestampDelta));
      }
      EXPECT_TRUE(after.status().ok()) << after.status();
    }
    EXPECT_FALSE(before.Next(was)) << "records are left over";
  }

  ByteBuffer bytes_;
  ByteBuffer buffer_;
  std::vector<BatchPart> parts_;
};

// Bytes of a part with these records, each with a value grown by `growth`.
size_t SizeOf(const std::vector<TestRecord>& records, size_t growth) {
  size_t size = kBatchHeaderSize + RecordsBytes(records).size();
  for (const TestRecord& record : records) size += record.value.has_value() ? growth : 0;
  return size;
}

TEST_F(BatchSplitTest, FillsEachPartInTurn) {
  const std::string large(1000, 'x');
  const auto counts = [&](std::vector<TestRecord> records, size_t partSize, size_t growth = 0) {
    const auto filled = FilledCounts(Part(std::move(records)), partSize, growth, 10);
    EXPECT_TRUE(filled.ok()) << filled.status();
    return *filled;
  };
  using Counts = std::vector<int32_t>;
  const std::vector<TestRecord> two = {Record("1"), Record("2")};
  EXPECT_EQ(counts(two, SizeOf(two, 0)), (Counts{2}));
  EXPECT_EQ(counts(two, SizeOf(two, 0) - 1), (Counts{1, 1}));
  EXPECT_EQ(counts(two, SizeOf(two, 64), 64), (Counts{2}));
  EXPECT_EQ(counts(two, SizeOf(two, 64) - 1, 64), (Counts{1, 1}));
  EXPECT_EQ(counts({Record("1"), Record("2"), Record("3")}, SizeOf(two, 0)), (Counts{2, 1}));
  EXPECT_EQ(counts({Record(large), Record("2"), Record("3")}, SizeOf(two, 0)), (Counts{1, 2}));
  EXPECT_EQ(counts({Record("1"), Record(large), Record("3")}, SizeOf(two, 0)), (Counts{1, 1, 1}));
  EXPECT_EQ(counts({Record("1"), Record("2"), Record("3")}, 1), (Counts{1, 1, 1})) << "none is left out";
  TestRecord tombstone = Record("");
  tombstone.value = std::nullopt;
  EXPECT_EQ(counts({tombstone, tombstone}, SizeOf({tombstone, tombstone}, 0), 64), (Counts{2})) << "it does not grow";
}

TEST_F(BatchSplitTest, StopsAtOnePartTooMany) {
  const auto counts = FilledCounts(Part(std::vector<TestRecord>(100, Record("1"))), 1, 0, 10);
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(counts->size(), 11u);
}

// Offset deltas of two bytes become such of one, and records change their length by that.
TEST_F(BatchSplitTest, CountsOffsetsFromZeroAgain) {
  std::vector<TestRecord> records;
  for (int i = 0; i < 1000; ++i) records.push_back(Record(std::to_string(i)));
  records[700].value = std::nullopt;
  ExpectParts(Part(records), {504, 496});
}

TEST_F(BatchSplitTest, GivesEachPartItsSequenceAndTimestamps) {
  ExpectParts(Part({Record("1", 5), Record("2", 60), Record("3", -30), Record("4", 20)}), {2, 2});
  EXPECT_EQ(parts_[0].header.baseSequence, 100);
  EXPECT_EQ(parts_[1].header.baseSequence, 102);
  EXPECT_EQ(parts_[0].header.maxTimestamp, 1060);
  EXPECT_EQ(parts_[1].header.maxTimestamp, 1020);
  EXPECT_EQ(parts_[1].header.baseTimestamp, 1000) << "the deltas refer to it";
}

TEST_F(BatchSplitTest, WrapsSequencesAndLeavesThoseOfOtherProducersAlone) {
  BatchPart part = Part({Record("1"), Record("2"), Record("3"), Record("4")});
  part.header.baseSequence = std::numeric_limits<int32_t>::max() - 1;
  ExpectParts(part, {2, 2});
  EXPECT_EQ(parts_[1].header.baseSequence, 0);
  part.header.baseSequence = std::numeric_limits<int32_t>::max();
  ExpectParts(part, {2, 2});
  EXPECT_EQ(parts_[1].header.baseSequence, 1);
  part.header.producerId = -1;
  part.header.baseSequence = -1;
  ExpectParts(part, {2, 2});
  EXPECT_EQ(parts_[1].header.baseSequence, -1);
}

TEST_F(BatchSplitTest, RefusesRecordsThatDoNotParse) {
  BatchPart part = Part({Record("1"), Record("2"), Record("3")});
  const std::vector<int32_t> counts = {1, 2};
  ASSERT_TRUE(Cut(part, counts, buffer_).ok());
  part.header.count = 4;
  EXPECT_FALSE(FilledCounts(part, 1000, 0, 2).ok());
  EXPECT_FALSE(Cut(part, std::vector<int32_t>{2, 2}, buffer_).ok());
  EXPECT_FALSE(Cut(part, counts, buffer_).ok());
  part.header.count = 2;
  EXPECT_FALSE(FilledCounts(part, 1000, 0, 2).ok());
  EXPECT_FALSE(Cut(part, std::vector<int32_t>{1, 1}, buffer_).ok());
  part.header.count = 3;
  EXPECT_FALSE(Cut(part, std::vector<int32_t>{1, 1}, buffer_).ok()) << "a record is in no part";
  part.records = part.records.first(part.records.size() - 1);
  EXPECT_FALSE(FilledCounts(part, 1000, 0, 2).ok());
  EXPECT_FALSE(Cut(part, counts, buffer_).ok());
}

}  // namespace
}  // namespace kveil::kafka
