// Copies and comparisons of runs of every length.
#include "base/short_runs.h"

#include <gtest/gtest.h>

#include <string>

namespace kveil {
namespace {

constexpr size_t kLongest = 200;

std::string TextOf(size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) text.push_back(static_cast<char>(i * 7 + 1));
  return text;
}

TEST(ShortRunsTest, AreCopiedWholeAndNoFurther) {
  for (size_t size = 0; size <= kLongest; ++size) {
    const std::string text = TextOf(size);  // of its own, so that a sanitizer sees a read beyond it
    ByteBuffer to(size + 2);
    to.front() = to.back() = 0xAA;
    EXPECT_EQ(CopyRun(to.data() + 1, AsBytes(text)), to.data() + 1 + size) << size;
    EXPECT_EQ(AsText(to).substr(1, size), text) << size;
    EXPECT_EQ(to.front(), 0xAA) << size;
    EXPECT_EQ(to.back(), 0xAA) << size;
  }
}

TEST(ShortRunsTest, AreTheSameIfEveryByteIs) {
  for (size_t size = 0; size <= kLongest; ++size) {
    const std::string text = TextOf(size);
    std::string other = text;
    EXPECT_TRUE(AreSameRuns(text.data(), other.data(), size)) << size;
    for (size_t i = 0; i < size; ++i) {
      ++other[i];
      EXPECT_FALSE(AreSameRuns(text.data(), other.data(), size)) << size << " " << i;
      --other[i];
    }
  }
}

}  // namespace
}  // namespace kveil
