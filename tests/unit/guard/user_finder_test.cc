// Whose record it is: every place that a policy may point at, every encoding, and why there is nobody.
#include "guard/worker/user_finder.h"

#include <gtest/gtest.h>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

class UserFinderTest : public testing::Test {
 protected:
  // The user as text, "found 38", or why there is none: "no user", "not JSON", "ambiguous", "bad id".
  std::string Find(const policy::UserSource& source, const TestRecord& record) {
    const ByteBuffer bytes = Padded(RecordsBytes({record}));
    kafka::RecordReader reader(bytes, 1);
    kafka::RecordView view;
    EXPECT_TRUE(reader.Next(view)) << reader.status();
    std::string_view user;
    const std::optional<Problem> problem = finder_.Find(source, view, user);
    if (!problem.has_value()) return StrCat("found ", user);
    EXPECT_FALSE(problem->message.empty());
    message_ = problem->message;
    switch (problem->reason) {
      case RefuseReason::kNoUser:
        return "no user";
      case RefuseReason::kNotJson:
        return "not JSON";
      case RefuseReason::kAmbiguousUser:
        return "ambiguous";
      case RefuseReason::kBadUserId:
        return "bad id";
      default:
        return "another reason";
    }
  }
  // What `user` of a policy finds.
  std::string Find(const std::string& user, const TestRecord& record) {
    const auto policy = PolicyOf(R"({"name": "t", "seal": {"scope": "user", "user": )" + user + "}}");
    return Find(policy->Find("t")->seal->user, record);
  }
  std::string InValue(const std::string& value, const std::string& more = "") {
    return Find(R"({"value": "/user")" + more + "}", Record("k", value));
  }
  std::string InKey(const Text& key, const std::string& user = R"({"key": true})") {
    return Find(user, Record(key, "value"));
  }
  std::string InHeader(std::vector<std::pair<std::string, Text>> headers, const std::string& more = "") {
    TestRecord record = Record("k", "value");
    record.headers = std::move(headers);
    return Find(R"({"header": "user")" + more + "}", record);
  }

  UserFinder finder_;
  std::string_view message_;
};

TEST_F(UserFinderTest, TakesANumberAndItsDigitsForTheSameUser) {
  EXPECT_EQ(InValue(R"({"user": 38})"), "found 38");
  EXPECT_EQ(InValue(R"({"user": "38"})"), "found 38");
  EXPECT_EQ(InValue(R"({"user":-7})"), "found -7");
  EXPECT_EQ(InValue(R"({"user":-0})"), "found 0");
  EXPECT_EQ(InValue(R"({"user": 9223372036854775807})"), "found 9223372036854775807");
  EXPECT_EQ(InValue(R"({"user": 18446744073709551615})"), "found 18446744073709551615");
}

TEST_F(UserFinderTest, RefusesNumbersThatAreNoIds) {
  for (const char* number : {"1.5", "38.0", "1e3", "1e400", "18446744073709551616", "123456789012345678901234567890"}) {
    EXPECT_EQ(InValue(StrCat(R"({"user": )", number, "}")), "bad id") << number;
  }
}

TEST_F(UserFinderTest, SaysWhyThereIsNobody) {
  EXPECT_EQ(InValue(R"({"user": "anna", "user": "bert"})"), "ambiguous");
  EXPECT_EQ(InValue(R"({"user": "anna", "USER": "bert"})"), "ambiguous");
  for (const char* value : {"{}", R"({"user": null})", R"({"user": ""})", R"({"user": true})", "[]", "38"}) {
    EXPECT_EQ(InValue(value), "no user") << value;
  }
  EXPECT_EQ(InValue(R"({"user":38}{"user":39})"), "not JSON");
  EXPECT_EQ(InValue(R"({"user": "a\nb"})"), "bad id");
  EXPECT_EQ(InValue(R"({"user": "\u0000"})"), "bad id");
  EXPECT_EQ(InValue(R"({"user": "\ud83d"})"), "bad id");
  EXPECT_EQ(InValue(StrCat(R"({"user": ")", std::string(1025, 'x'), R"("})")), "bad id");
  EXPECT_EQ(InValue(StrCat(R"({"user": ")", std::string(1024, 'x'), R"("})")),
            StrCat("found ", std::string(1024, 'x')));
}

TEST_F(UserFinderTest, IsNotConfusedByWhatStandsBehindTheDocumentInTheRecord) {
  TestRecord record = Record("k", R"({"page": 1})");
  record.headers = {{"x", R"(, "user": "anna"})"}};
  EXPECT_EQ(Find(R"({"value": "/user"})", record), "no user");
  record.value = R"({"user": 38)";
  record.headers = {{"}", "9}"}};
  EXPECT_EQ(Find(R"({"value": "/user"})", record), "not JSON");
}

// A delete of Debezium's has the row before it only.
TEST_F(UserFinderTest, TakesTheFirstPlaceThatNamesAUser) {
  const std::string places = R"({"value": ["/after/id", "/before/id"]})";
  EXPECT_EQ(Find(places, Record("k", R"({"before": null, "after": {"id": 2}, "op": "c"})")), "found 2");
  EXPECT_EQ(Find(places, Record("k", R"({"before": {"id": 1}, "after": {"id": 2}, "op": "u"})")), "found 2");
  EXPECT_EQ(Find(places, Record("k", R"({"before": {"id": 1}, "after": null, "op": "d"})")), "found 1");
  EXPECT_EQ(Find(places, Record("k", R"({"before": {"id": 1}, "after": {"id": 1.5}})")), "bad id");
}

TEST_F(UserFinderTest, PassesOverTheFramingThatThePolicyDeclares) {
  const std::string framed = StrCat(std::string_view("\0\0\0\0\7", 5), R"({"user": 38})");
  EXPECT_EQ(InValue(framed, R"(, "framing": "confluent")"), "found 38");
  EXPECT_EQ(InKey(framed, R"({"key": "/user", "framing": "confluent"})"), "found 38");
  EXPECT_EQ(InValue(framed), "not JSON");
  EXPECT_EQ(InValue(R"({"user": 38})", R"(, "framing": "confluent")"), "not JSON");
  EXPECT_NE(message_.find("5 bytes"), std::string_view::npos) << message_;
  EXPECT_EQ(InValue(StrCat(std::string_view("\1\0\0\0\7", 5), R"({"user": 38})"), R"(, "framing": "confluent")"),
            "not JSON");
  EXPECT_EQ(InValue(std::string(4, '\0'), R"(, "framing": "confluent")"), "not JSON");
}

TEST_F(UserFinderTest, TakesTheKeyAsAWhole) {
  EXPECT_EQ(InKey("anna"), "found anna");
  EXPECT_EQ(InKey(" \xC3\xBC"), "found  \xC3\xBC");
  EXPECT_EQ(InKey(""), "no user");
  EXPECT_EQ(InKey(std::nullopt), "no user");
}

// Nobody could name it to erase it.
TEST_F(UserFinderTest, RefusesABinaryIdWithoutADeclaration) {
  EXPECT_EQ(InKey(std::string("\0\0\0\0\0\0\0\x26", 8)), "bad id");
  EXPECT_NE(message_.find("\"as\""), std::string_view::npos) << message_;
  EXPECT_EQ(InKey("\xFF\x01"), "bad id");
  EXPECT_EQ(InHeader({{"user", "an\xC3"}}), "bad id");
  EXPECT_EQ(InKey("a\tb"), "bad id");
}

TEST_F(UserFinderTest, SpellsAnIdAlikeWhateverItCameIn) {
  const std::string eight("\0\0\0\0\0\0\0\x26", 8);
  EXPECT_EQ(InKey(eight, R"({"key": true, "as": "int64"})"), "found 38");
  EXPECT_EQ(InHeader({{"user", eight}}, R"(, "as": "int64")"), "found 38");
  EXPECT_EQ(InValue(R"({"user": 38})", R"(, "as": "int64")"), "found 38");
  EXPECT_EQ(InValue(R"({"user": "38"})", R"(, "as": "int64")"), "found 38");
  EXPECT_EQ(InKey("38", R"({"key": true, "as": "int64"})"), "bad id") << "a serializer writes 8 bytes";

  const std::string sixteen("\x6B\xA7\xB8\x10\x9D\xAD\x11\xD1\x80\xB4\0\xC0\x4F\xD4\x30\xC8", 16);
  const std::string uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  EXPECT_EQ(InKey(sixteen, R"({"key": true, "as": "uuid"})"), "found " + uuid);
  EXPECT_EQ(InKey("6BA7B810-9dad-11D1-80B4-00C04FD430C8", R"({"key": true, "as": "uuid"})"), "found " + uuid);
  EXPECT_EQ(InValue(R"({"user": "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"})", R"(, "as": "uuid")"), "found " + uuid);

  EXPECT_EQ(InKey("\xFF\x01", R"({"key": true, "as": "hex"})"), "found ff01");
  EXPECT_EQ(InValue(R"({"user": "FF01"})", R"(, "as": "hex")"), "found ff01");
  EXPECT_EQ(InKey("\xFF\xE1", R"({"key": true, "as": "base64"})"), "found /+E=");
  EXPECT_EQ(InValue(R"({"user": "_-E"})", R"(, "as": "base64")"), "found /+E=");
}

TEST_F(UserFinderTest, FollowsAPointerIntoTheKey) {
  EXPECT_EQ(InKey(R"({"id": 38})", R"({"key": "/id"})"), "found 38");
  EXPECT_EQ(InKey("anna", R"({"key": "/id"})"), "not JSON");
  EXPECT_EQ(InKey(std::nullopt, R"({"key": "/id"})"), "no user");
}

TEST_F(UserFinderTest, TakesTheFirstHeaderOfTheName) {
  EXPECT_EQ(InHeader({{"x", "no"}, {"user", "anna"}}), "found anna");
  EXPECT_EQ(InHeader({{"User", "anna"}}), "no user");
  EXPECT_EQ(InHeader({{"user", ""}}), "no user");
  EXPECT_EQ(InHeader({{"user", std::nullopt}}), "no user");
  EXPECT_EQ(InHeader({}), "no user");
}

// Java's Headers.lastHeader is what most readers ask for, others take the first.
TEST_F(UserFinderTest, RefusesTwoHeadersOfTheName) {
  EXPECT_EQ(InHeader({{"user", "anna"}, {"user", "bert"}}), "ambiguous");
  EXPECT_EQ(InHeader({{"user", std::nullopt}, {"user", "anna"}}), "ambiguous");
  EXPECT_EQ(InHeader({{"user", "anna"}, {"x", "y"}, {"user", "anna"}}), "ambiguous");
}

}  // namespace
}  // namespace kveil::guard
