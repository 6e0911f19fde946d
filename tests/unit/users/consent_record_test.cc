// What a record of a consent topic grants, and that nothing that could be meant otherwise grants anything.
#include "users/consent_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/text.h"

namespace kveil::users {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(ConsentRecordTest, HoldsEveryPurposeThatIsGranted) {
  const auto named = ParseConsentRecord(
      R"({"meta": {"a": [1, {"purposes": []}]}, "purposes": {"b": {"until": "2027-01-01"}, "a": true, "c": false}})");
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_THAT(*named, ElementsAre(Consent{"a"}, Consent{"b", absl::FromUnixSeconds(1'798'761'600)}));
  const auto listed = ParseConsentRecord(R"({"purposes": ["b", "a", "b"]})");
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_THAT(*listed, ElementsAre(Consent{"a"}, Consent{"b"}));
  for (const char* none : {R"({"purposes": {}})", R"({"purposes": []})", R"({"purposes": {"secret": false}})"}) {
    const auto nothing = ParseConsentRecord(none);
    ASSERT_TRUE(nothing.ok()) << nothing.status();
    EXPECT_THAT(*nothing, IsEmpty());
  }
}

TEST(ConsentRecordTest, RefusesWhatCouldBeMeantOtherwise) {
  const std::string bad[] = {
      "",
      "null",
      "true",
      "[]",
      "{}",
      "secret",
      R"({"purposes": null})",
      R"({"purposes": true})",
      R"({"purposes": "secret"})",
      R"({"purposes": ["secret", null]})",
      R"({"purposes": ["secret", ["a"]]})",
      R"({"purposes": ["secret "]})",
      R"({"purposes": [""]})",
      R"({"purposes": {"secret": 1}})",
      R"({"purposes": {"secret": null}})",
      R"({"purposes": {"secret": "true"}})",
      R"({"purposes": {"secret": "2027-01-01"}})",
      R"({"purposes": {"secret": {}}})",
      R"({"purposes": {"secret": {"until": null}}})",
      R"({"purposes": {"secret": {"until": 1798761600000}}})",
      R"({"purposes": {"secret": {"until": "soon"}}})",
      R"({"purposes": {"secret": {"until": "2027-01-01", "from": "2026-12-01"}}})",
      R"({"purposes": {"secret": true, "secret": false}})",
      R"({"purposes": {"secret": false, "s\u0065cret": true}})",
      R"({"purposes": {"secret": true}, "purposes": {}})",
      R"({"purposes": {"secret": true}, "status": "withdrawn"})",
      R"({"Purposes": {"secret": true}})",
      R"({"purposes": {"secret": true}} {})",
      R"({"purposes": {"secret": true})",
      R"({"purposes": {"secret purpose": true}})",
      StrCat("{\"purposes\": {\"", std::string(kLongestName + 1, 's'), "\": true}}"),
      StrCat("{\"purposes\": {\"secret\": true}, \"meta\": ", std::string(30, '['), std::string(30, ']'), "}"),
      StrCat("{\"purposes\": {\"secret\": true}, \"meta\": \"", std::string(kLongestConsentRecord, 's'), "\"}"),
      std::string("{\"purposes\": [\"secret\"], \"meta\": \"\xff\"}"),
  };
  for (const std::string& value : bad) {
    const auto parsed = ParseConsentRecord(value);
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << value.substr(0, 100) << ": " << parsed.status();
    EXPECT_THAT(parsed.status().message(), Not(HasSubstr("secret"))) << "a reason holds nothing of the record";
  }
}

TEST(ConsentRecordTest, GrantsAsManyPurposesAsAUserMayHave) {
  std::string purposes;
  for (size_t i = 0; i < kMostConsents; ++i) StrAppend(&purposes, i == 0 ? "" : ",", "\"p", i, "\"");
  EXPECT_EQ(ParseConsentRecord(StrCat("{\"purposes\":[", purposes, "]}"))->size(), kMostConsents);
  EXPECT_FALSE(ParseConsentRecord(StrCat("{\"purposes\":[", purposes, ",\"more\"]}")).ok());
}

}  // namespace
}  // namespace kveil::users
