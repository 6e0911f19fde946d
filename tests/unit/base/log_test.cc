#include "base/log.h"

#include <gtest/gtest.h>

namespace kveil::log {
namespace {

TEST(Format, writesPairsInOrder) {
  EXPECT_EQ(Format("connection.open", {{"client", "10.0.0.1:40000"}, {"records", 3}}),
            "connection.open client=10.0.0.1:40000 records=3");
}

TEST(Format, quotesWhatWouldBreakALineOrAPair) {
  EXPECT_EQ(Format("x", {{"a", "two words"}, {"b", ""}, {"c", "line\nbreak"}, {"d", "q\"uote"}, {"e", "\x01"}}),
            "x a=\"two words\" b=\"\" c=\"line\\nbreak\" d=\"q\\\"uote\" e=\"\\x01\"");
}

}  // namespace
}  // namespace kveil::log
