// What is said of text that is not JSON, or not unambiguous.
#include "config/json_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kveil::config {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ParseError(std::string_view text) {
  return std::string(JsonDocument::Parse(text, "f.json").status().message());
}

TEST(JsonDocumentTest, SyntaxErrorNamesFileLineAndColumn) {
  EXPECT_THAT(ParseError("{\n  \"a\": 1,\n  oops\n}"), HasSubstr("f.json: line 3, column 3: not JSON: "));
  EXPECT_THAT(ParseError("{\"a\" 1}"), HasSubstr("f.json: line 1, column 6: "));
  EXPECT_THAT(ParseError(""), HasSubstr("f.json: line 1, column 1: "));
  EXPECT_THAT(ParseError("{} x"), HasSubstr("f.json: line 1, column 4: "));
  EXPECT_THAT(ParseError("{\"a\": 1,}"), HasSubstr("column 9: "));
  EXPECT_THAT(ParseError("// comment\n{}"), HasSubstr("line 1, column 1: "));
  EXPECT_THAT(ParseError("{\"a\": \"\xff\"}"), HasSubstr("line 1, column 8: "));
}

TEST(JsonDocumentTest, KeyThatAppearsTwiceIsRefusedWhereItIs) {
  EXPECT_EQ(ParseError(R"({"a": 1, "b": 2, "a": 1})"), "f.json: top level: the key \"a\" appears twice");
  EXPECT_EQ(ParseError(R"({"x": [{}, {"a/b": {"a": 1, "a": 2}}]})"), "f.json: /x/1/a~1b: the key \"a\" appears twice");
  EXPECT_EQ(ParseError(R"([{"a": 1}, {"a": 1}])"), "");
}

TEST(JsonDocumentTest, ErrorsAreOneLineWhateverTheKeysHold) {
  EXPECT_EQ(ParseError(R"({"a\nb": 1, "a\nb": 2})"), "f.json: top level: the key \"a\\u000ab\" appears twice");
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(R"({"x\n\u007f": 1})", "f.json");
  ASSERT_TRUE(document.ok());
  JsonObject(document->root(), {"known"});
  EXPECT_THAT(std::string(document->status().message()), HasSubstr("/x\\u000a\\u007f: unknown key"));
  EXPECT_THAT(std::string(document->status().message()), Not(HasSubstr("\n")));
}

TEST(JsonDocumentTest, NestingIsBounded) {
  EXPECT_THAT(ParseError(std::string(100000, '[')), HasSubstr("nested more than 32 levels deep"));
}

TEST(JsonValueTest, LongTextIsCutInMessages) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse("\"" + std::string(5000, 'x') + "\"", "f.json");
  ASSERT_TRUE(document.ok());
  document->root().Integer(0, 1);
  EXPECT_LT(document->status().message().size(), 200u);
}

TEST(JsonValueTest, ControlCharactersAreNoText) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(R"("/tmp\u0000/x")", "f.json");
  ASSERT_TRUE(document.ok());
  EXPECT_EQ(document->root().AbsolutePath(), "");
  EXPECT_THAT(std::string(document->status().message()), HasSubstr("expected a string without control characters"));
}

TEST(NearestNameTest, FindsTheMisspelledAndNotTheUnrelated) {
  EXPECT_EQ(NearestName("tergets", {"targets", "cgroup"}), "targets");
  EXPECT_EQ(NearestName("listenport", {"listenPort", "cgroup"}), "listenPort");
  EXPECT_EQ(NearestName("keyspcae", {"keyspace", "user"}), "keyspace");
  EXPECT_EQ(NearestName("x", {"any", "workload"}), "");
  EXPECT_EQ(NearestName("password", {"name", "prefix", "pattern"}), "");
}

}  // namespace
}  // namespace kveil::config
