#include "base/log.h"

#include <gtest/gtest.h>

namespace kveil::log {
namespace {

TEST(FormatTest, WritesPairsInOrder) {
  EXPECT_EQ(Format("connection.open", {{"client", "10.0.0.1:40000"}, {"records", 3}}),
            "connection.open client=10.0.0.1:40000 records=3");
}

TEST(FormatTest, QuotesWhatWouldBreakALineOrAPair) {
  EXPECT_EQ(Format("x", {{"a", "two words"}, {"b", ""}, {"c", "line\nbreak"}, {"d", "q\"uote"}, {"e", "\x01"}}),
            "x a=\"two words\" b=\"\" c=\"line\\nbreak\" d=\"q\\\"uote\" e=\"\\x01\"");
}

// A workload can make as many names of its own as it likes.
TEST(WriteTest, CountsLinesByTheirShareAndDoesNotShowIt) {
  EXPECT_EQ(Format("x", {{"workload", "/a/b/c/d"}, {"share", "/a/b/c"}, {"reason", "y"}}),
            "x workload=/a/b/c/d reason=y");
  constexpr int kLines = 1000;
  testing::internal::CaptureStderr();
  const uint64_t before = Lost().limited;
  for (int i = 0; i < kLines; ++i) Info("test.flood", {{"workload", i}, {"share", "/a/b/c"}});
  const uint64_t limited = Lost().limited - before;
  EXPECT_GT(limited, 0u) << "500 are written, and 50 more per second";
  for (int i = 0; i < 100; ++i) Info("test.flood", {{"workload", i}, {"share", "/a/b/d"}});
  EXPECT_EQ(Lost().limited - before, limited) << "another one has its own rate";
  Flush();
  testing::internal::GetCapturedStderr();
}

}  // namespace
}  // namespace kveil::log
