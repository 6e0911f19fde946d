// Variable-length integers.
#include "kafka/varint.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

namespace kveil::kafka {
namespace {

TEST(VarintTest, ZigzagValuesHaveTheBytesOfTheSpecification) {
  const struct {
    int32_t value;
    std::vector<uint8_t> bytes;
  } cases[] = {{0, {0x00}},
               {-1, {0x01}},
               {1, {0x02}},
               {63, {0x7e}},
               {-64, {0x7f}},
               {64, {0x80, 0x01}},
               {8191, {0xfe, 0x7f}},
               {8192, {0x80, 0x80, 0x01}},
               {std::numeric_limits<int32_t>::max(), {0xfe, 0xff, 0xff, 0xff, 0x0f}},
               {std::numeric_limits<int32_t>::min(), {0xff, 0xff, 0xff, 0xff, 0x0f}}};
  for (const auto& [value, bytes] : cases) {
    std::array<uint8_t, kMaxVarint32Size> written = {};
    uint8_t* end = WriteVarint(written.data(), value);
    EXPECT_EQ(std::vector<uint8_t>(written.data(), end), bytes) << value;
    EXPECT_EQ(VarintSize(value), bytes.size()) << value;
    const uint8_t* cursor = bytes.data();
    int32_t read = 0;
    ASSERT_TRUE(ReadVarint(cursor, bytes.data() + bytes.size(), read)) << value;
    EXPECT_EQ(read, value);
    EXPECT_EQ(cursor, bytes.data() + bytes.size());
  }
}

TEST(VarintTest, EverySizeOfA64BitValueIsReadBack) {
  for (int bit = 0; bit < 64; ++bit) {
    for (const int64_t value :
         {static_cast<int64_t>(uint64_t{1} << bit), -static_cast<int64_t>(uint64_t{1} << (bit / 2))}) {
      std::array<uint8_t, kMaxVarint64Size> bytes = {};
      uint8_t* end = WriteUnsignedVarint(bytes.data(), Zigzag(value));
      EXPECT_EQ(static_cast<size_t>(end - bytes.data()), UnsignedVarintSize(Zigzag(value)));
      const uint8_t* cursor = bytes.data();
      int64_t read = 0;
      ASSERT_TRUE(ReadVarlong(cursor, end, read));
      EXPECT_EQ(read, value);
    }
  }
}

TEST(VarintTest, WhatIsCutShortIsRefusedAndTheCursorStays) {
  const std::vector<uint8_t> bytes = {0x80, 0x80, 0x80, 0x80, 0x01};
  for (size_t size = 0; size < bytes.size(); ++size) {
    const uint8_t* cursor = bytes.data();
    uint32_t value = 0;
    EXPECT_FALSE(ReadUnsignedVarint(cursor, bytes.data() + size, value)) << size;
    EXPECT_EQ(cursor, bytes.data());
  }
}

TEST(VarintTest, WhatDoesNotFitTheTypeIsRefused) {
  for (const std::vector<uint8_t>& bytes :
       {std::vector<uint8_t>{0xff, 0xff, 0xff, 0xff, 0x1f}, std::vector<uint8_t>{0x80, 0x80, 0x80, 0x80, 0x80, 0x00}}) {
    const uint8_t* cursor = bytes.data();
    uint32_t value = 0;
    EXPECT_FALSE(ReadUnsignedVarint(cursor, bytes.data() + bytes.size(), value));
  }
  const std::vector<uint8_t> tooLong = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02};
  const uint8_t* cursor = tooLong.data();
  uint64_t value = 0;
  EXPECT_FALSE(ReadUnsignedVarint(cursor, tooLong.data() + tooLong.size(), value));
}

}  // namespace
}  // namespace kveil::kafka
