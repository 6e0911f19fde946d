// Whose record it is: every place and every spelling that a policy may point at.
#include "guard/user_finder.h"

#include <gtest/gtest.h>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using Result = UserFinder::Result;

class UserFinderTest : public testing::Test {
 protected:
  // The result and the user as text: "found 38", "no user", "not JSON".
  std::string Find(const policy::UserSource& source, const TestRecord& record) {
    const ByteBuffer bytes = Padded(RecordsBytes({record}));
    kafka::RecordReader reader(bytes, 1);
    kafka::RecordView view;
    EXPECT_TRUE(reader.Next(view)) << reader.status();
    std::string_view user;
    switch (finder_.Find(source, view, user)) {
      case Result::kFound:
        return StrCat("found ", user);
      case Result::kNoUser:
        return "no user";
      case Result::kNotJson:
        break;
    }
    return "not JSON";
  }
  std::string InValue(const std::string& value, const std::string& pointer = "/user") {
    policy::UserSource source;
    source.from = policy::UserSource::From::kValue;
    source.pointer = pointer;
    return Find(source, Record("k", value));
  }
  std::string InKey(const Text& key, const std::string& pointer) {
    policy::UserSource source;
    source.from = policy::UserSource::From::kKey;
    source.pointer = pointer;
    return Find(source, Record(key, "value"));
  }
  std::string InHeader(std::vector<std::pair<std::string, Text>> headers) {
    policy::UserSource source;
    source.from = policy::UserSource::From::kHeader;
    source.header = "user";
    TestRecord record = Record("k", "value");
    record.headers = std::move(headers);
    return Find(source, record);
  }

  UserFinder finder_;
};

TEST_F(UserFinderTest, takesAStringInTheValueAsItIs) {
  EXPECT_EQ(InValue(R"({"user": "anna"})"), "found anna");
  EXPECT_EQ(InValue(R"({"page": "/x", "deep": {"user": "no"}, "user": " anna "})"), "found  anna ");
}

TEST_F(UserFinderTest, takesANumberAndItsDigitsForTheSameUser) {
  EXPECT_EQ(InValue(R"({"user": 38})"), "found 38");
  EXPECT_EQ(InValue(R"({"user": "38"})"), "found 38");
  EXPECT_EQ(InValue(R"({"user":-7})"), "found -7");
  EXPECT_EQ(InValue(R"({"user": 9223372036854775807})"), "found 9223372036854775807");
  EXPECT_EQ(InValue(R"({"user": 18446744073709551615})"), "found 18446744073709551615");
}

TEST_F(UserFinderTest, refusesNumbersThatAreNoIds) {
  for (const char* number : {"1.5", "38.0", "1e3", "1e400", "18446744073709551616", "123456789012345678901234567890"}) {
    EXPECT_EQ(InValue(StrCat(R"({"user": )", number, "}")), "no user") << number;
  }
}

TEST_F(UserFinderTest, unescapesStrings) {
  EXPECT_EQ(InValue(R"({"user": "a\u006ena"})"), "found anna");
  EXPECT_EQ(InValue(R"({"user": "a\"n\\n\/a\t"})"), "found a\"n\\n/a\t");
  EXPECT_EQ(InValue(R"({"user": "\ud83d\ude00"})"), "found \xF0\x9F\x98\x80");
  EXPECT_EQ(InValue(R"({"us\u0065r": "anna"})"), "no user") << "names of members are compared as they are written";
}

TEST_F(UserFinderTest, followsAPointerThroughObjectsAndLists) {
  EXPECT_EQ(InValue(R"({"a": [{"b": 1}, {"b": {"id": "anna"}}]})", "/a/1/b/id"), "found anna");
  EXPECT_EQ(InValue(R"(["x", "anna"])", "/1"), "found anna");
  EXPECT_EQ(InValue(R"({"a/b": {"c~d": "anna"}})", "/a~1b/c~0d"), "found anna");
  EXPECT_EQ(InValue(R"({"": "anna"})", "/"), "found anna");
}

TEST_F(UserFinderTest, findsNoUserWhereThereIsNone) {
  for (const char* value : {R"({})", R"({"User": "anna"})", R"({"user": null})", R"({"user": ""})", R"({"user": true})",
                            R"({"user": {"id": 1}})", R"({"user": ["anna"]})", R"([])", R"(["anna"])"}) {
    EXPECT_EQ(InValue(value), "no user") << value;
  }
  EXPECT_EQ(InValue(R"({"a": ["x"]})", "/a/1"), "no user");
  EXPECT_EQ(InValue(R"({"a": ["x"]})", "/a/b"), "no user");
  EXPECT_EQ(InValue(R"({"a": "x"})", "/a/b"), "no user");
}

TEST_F(UserFinderTest, findsNothingInAScalarDocument) {
  for (const char* value : {"38", "\"anna\"", "true", "null"}) {
    EXPECT_NE(InValue(value).substr(0, 5), "found") << value;
  }
}

TEST_F(UserFinderTest, tellsWhatIsNotJson) {
  for (const char* value :
       {"", " ", "plain text", "{", "{\"user\"", "{\"user\": \"anna", "<user>anna</user>", "\x00\x00\x00\x00\x07"}) {
    EXPECT_EQ(InValue(value), "not JSON") << value;
  }
}

TEST_F(UserFinderTest, tellsBytesThatAreNotUtf8) {
  EXPECT_EQ(InValue("{\"user\": \"an\xFFna\"}"), "not JSON");
  EXPECT_EQ(InValue("{\"user\": \"anna\", \"x\": \"\xC3\"}"), "not JSON");
}

TEST_F(UserFinderTest, isNotConfusedByWhatStandsBehindTheDocumentInTheRecord) {
  TestRecord record = Record("k", R"({"page": 1})");
  record.headers = {{"x", R"(, "user": "anna"})"}};
  policy::UserSource source;
  source.pointer = "/user";
  EXPECT_EQ(Find(source, record), "no user");
  record.value = R"({"user": 38)";
  record.headers = {{"}", "9}"}};
  EXPECT_NE(Find(source, record), "found 389");
}

TEST_F(UserFinderTest, tellsADocumentThatIsBrokenBehindTheUser) {
  for (const char* value :
       {R"({"user": "anna"} garbage)", R"({"user": "anna", broken)", R"({"user": "anna")", R"({"user": 38)"}) {
    EXPECT_EQ(InValue(value), "not JSON") << value;
  }
}

TEST_F(UserFinderTest, takesTheFirstOfTwoMembersWithOneName) {
  EXPECT_EQ(InValue(R"({"user": "anna", "user": "bert"})"), "found anna");
}

TEST_F(UserFinderTest, survivesDeepNesting) {
  const std::string open(100'000, '[');
  const std::string close(100'000, ']');
  EXPECT_EQ(InValue(StrCat(R"({"user": "anna", "deep": )", open, close, "}")), "found anna");
  InValue(StrCat(R"({"deep": )", open, close, R"(, "user": "anna"})"));
  InValue(open);
  std::string pointer;
  for (int i = 0; i < 2000; ++i) pointer += "/0";
  InValue(StrCat(open, "1", close), pointer);
}

TEST_F(UserFinderTest, findsTheUserInLongValues) {
  const std::string filler(1 << 20, 'x');
  EXPECT_EQ(InValue(StrCat(R"({"text": ")", filler, R"(", "user": ")", filler, R"("})")), StrCat("found ", filler));
  EXPECT_EQ(InValue(R"({"user": "anna"})"), "found anna");
}

TEST_F(UserFinderTest, takesTheKeyAsAWhole) {
  EXPECT_EQ(InKey("anna", ""), "found anna");
  EXPECT_EQ(InKey(std::string("\x00\xFF\x01", 3), ""), StrCat("found ", std::string("\x00\xFF\x01", 3)));
  EXPECT_EQ(InKey("", ""), "no user");
  EXPECT_EQ(InKey(std::nullopt, ""), "no user");
}

TEST_F(UserFinderTest, followsAPointerIntoTheKey) {
  EXPECT_EQ(InKey(R"({"id": 38})", "/id"), "found 38");
  EXPECT_EQ(InKey("anna", "/id"), "not JSON");
  EXPECT_EQ(InKey(std::nullopt, "/id"), "no user");
}

TEST_F(UserFinderTest, takesTheFirstHeaderOfTheName) {
  EXPECT_EQ(InHeader({{"x", "no"}, {"user", "anna"}, {"user", "bert"}}), "found anna");
  EXPECT_EQ(InHeader({{"User", "anna"}}), "no user");
  EXPECT_EQ(InHeader({{"user", ""}}), "no user");
  EXPECT_EQ(InHeader({{"user", std::nullopt}}), "no user");
  EXPECT_EQ(InHeader({{"user", std::nullopt}, {"user", "anna"}}), "no user");
  EXPECT_EQ(InHeader({}), "no user");
}

}  // namespace
}  // namespace kveil::guard
