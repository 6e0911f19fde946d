#include "base/log.h"

#include <gmock/gmock.h>
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

TEST(FormatJsonTest, WritesAnObjectPerLineWhateverTheValuesHold) {
  EXPECT_EQ(FormatJson("2026-11-29T16:50:02.313+00:00", Level::kWarning, "connection.closed",
                       {{"client", "10.0.0.1:40000"}, {"records", 3}, {"ratio", 0.5}, {"share", "/a"}, {"empty", ""}}),
            R"({"time":"2026-11-29T16:50:02.313+00:00","level":"warning","event":"connection.closed",)"
            R"("client":"10.0.0.1:40000","records":3,"ratio":0.5,"empty":""})");
  EXPECT_EQ(FormatJson("t", Level::kInfo, "x", {{"digits", "38"}, {"a", "q\"uote\n\x01"}, {"b", "\xff\xc3"}}),
            "{\"time\":\"t\",\"level\":\"info\",\"event\":\"x\",\"digits\":\"38\",\"a\":\"q\\\"uote\\n\\u0001\","
            "\"b\":\"\xef\xbf\xbd\xef\xbf\xbd\"}");
}

TEST(WriteTest, WritesLinesInTheLayoutThatIsSet) {
  SetLayout(Layout::kJson);
  testing::internal::CaptureStderr();
  Info("test.layout", {{"value", "a b"}});
  SetLayout(Layout::kText);
  Info("test.layout", {{"value", "a b"}});
  ASSERT_TRUE(Flush(std::chrono::seconds(10)));
  const std::string written = testing::internal::GetCapturedStderr();
  EXPECT_THAT(written, testing::HasSubstr(R"("level":"info","event":"test.layout","value":"a b"})"
                                          "\n"));
  EXPECT_THAT(written, testing::HasSubstr("+00:00 info test.layout value=\"a b\"\n"));
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
