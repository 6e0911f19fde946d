// Consents and attributes: what they answer, and that nothing damaged or beyond a bound is taken for one.
#include "users/user_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "users/facts_change.h"

namespace kveil::users {
namespace {

using testing::HasSubstr;
using testing::Not;

const absl::Time kNow = absl::FromUnixMillis(1'764'000'000'000);

UserFacts SomeFacts() {
  UserFacts facts;
  facts.consents = {{"marketing"}, {"news.weekly", kNow + absl::Hours(1)}};
  facts.attributes = {{"region", "eu"}, {"tenant", "Müller & Söhne"}};
  return facts;
}

TEST(UserFactsTest, AConsentHoldsUntilItsEnd) {
  const UserFacts facts = SomeFacts();
  EXPECT_TRUE(facts.Consents("marketing", kNow));
  EXPECT_TRUE(facts.Consents("marketing", kNow + absl::Hours(1'000'000)));
  EXPECT_TRUE(facts.Consents("news.weekly", kNow + absl::Hours(1) - absl::Nanoseconds(1)));
  EXPECT_FALSE(facts.Consents("news.weekly", kNow + absl::Hours(1)));
}

TEST(UserFactsTest, ConsentsFromATopicHoldOnlyWhileItsClockSaysThatTheyAreCurrent) {
  UserFacts facts = SomeFacts();
  facts.source = FactsSource{"customers", 2, 0};
  EXPECT_FALSE(facts.Consents("marketing", kNow)) << "no clock";
  const auto clock = std::make_shared<SourceClock>();
  facts.clock = clock;
  EXPECT_FALSE(facts.Consents("marketing", kNow)) << "a clock that was never set";
  clock->Set(2, kNow + absl::Minutes(1));
  EXPECT_TRUE(facts.Consents("marketing", kNow));
  EXPECT_FALSE(facts.Consents("marketing", kNow + absl::Minutes(1)));
  for (const int64_t generation : {1, 3}) {
    clock->Set(generation, absl::InfiniteFuture());
    EXPECT_FALSE(facts.Consents("marketing", kNow)) << generation;
  }
  EXPECT_FALSE(facts.Consents("news", kNow));
  EXPECT_NE(facts.Attribute("region"), nullptr) << "attributes come from commands";
}

TEST(UserFactsTest, KeepsTheTopicThatConsentsComeFrom) {
  UserFacts facts;
  facts.source = FactsSource{"customers", 2, kSeveralPartitions};
  EXPECT_FALSE(facts.empty());
  EXPECT_EQ(Encode(facts),
            "{\"consents\":{},\"attributes\":{},\"source\":{\"keyspace\":\"customers\",\"generation\":2,"
            "\"partition\":-1}}");
  EXPECT_EQ(*Decode(Encode(facts)), facts);
  for (const char* source :
       {"null", "{}", "7", "[]", R"({"keyspace":"","generation":1,"partition":0})",
        R"({"keyspace":"k","generation":0,"partition":0})", R"({"keyspace":"k","generation":1,"partition":-2})",
        R"({"keyspace":"k","generation":1,"partition":4294967296})",
        R"({"keyspace":"k","generation":1.5,"partition":0})",
        R"({"keyspace":"k","generation":1,"partition":0,"more":1})"}) {
    EXPECT_TRUE(
        absl::IsDataLoss(Decode(StrCat("{\"consents\":{},\"attributes\":{},\"source\":", source, "}")).status()))
        << source;
  }
}

TEST(UserFactsTest, KeepsTheTimeOfARecordThatHasYetToCome) {
  UserFacts facts;
  facts.ahead = absl::FromUnixMillis(7);
  EXPECT_FALSE(facts.empty()) << "it is not forgotten with the topic";
  EXPECT_EQ(Encode(facts), R"({"consents":{},"attributes":{},"ahead":7})");
  EXPECT_EQ(*Decode(Encode(facts)), facts);
  for (const char* ahead : {"null", "1.5", "\"7\"", "[]"}) {
    const std::string text = StrCat("{\"consents\":{},\"attributes\":{},\"ahead\":", ahead, "}");
    EXPECT_TRUE(absl::IsDataLoss(Decode(text).status())) << ahead;
  }
}

TEST(UserFactsTest, KeepsWhenAPurposeWasWithdrawn) {
  UserFacts facts;
  NoteWithdrawal("news", absl::FromUnixMillis(7) + absl::Microseconds(1), absl::InfinitePast(), facts);
  NoteWithdrawal("ads", absl::FromUnixMillis(9), absl::FromUnixMillis(9), facts);
  NoteWithdrawal("ads", absl::FromUnixMillis(8), absl::FromUnixMillis(12), facts);
  EXPECT_FALSE(facts.empty());
  EXPECT_EQ(Encode(facts), R"({"consents":{},"attributes":{},"withdrawn":{"ads":[9,12],"news":7}})");
  EXPECT_EQ(*Decode(Encode(facts)), facts);
  EXPECT_EQ(facts.WithdrawalOf("news"), (Withdrawal{"news", absl::FromUnixMillis(7), absl::FromUnixMillis(7)}));
  EXPECT_EQ(facts.WithdrawalOf("ads"), (Withdrawal{"ads", absl::FromUnixMillis(9), absl::FromUnixMillis(12)}));
  EXPECT_EQ(facts.WithdrawalOf("other"), std::nullopt);
  ForgetWithdrawal("news", facts);
  EXPECT_EQ(facts.WithdrawalOf("news"), std::nullopt);
  for (const char* withdrawn : {"{}", "null", "[7]", R"({"a":null})", R"({"a":1.5})", R"({"a b":1})",
                                R"({"b":1,"a":1})", R"({"a":99999999999999999999})", R"({"a":[]})", R"({"a":[1]})",
                                R"({"a":[1,1]})", R"({"a":[2,1]})", R"({"a":[1,2,3]})", R"({"a":[1,null]})"}) {
    const std::string text = StrCat("{\"consents\":{},\"attributes\":{},\"withdrawn\":", withdrawn, "}");
    EXPECT_TRUE(absl::IsDataLoss(Decode(text).status())) << withdrawn;
  }
}

TEST(UserFactsTest, BeyondTheMostWithdrawalsTheOldestGoForEveryPurpose) {
  UserFacts facts;
  const size_t count = kMostWithdrawals + 10;
  for (size_t i = 0; i < count; ++i) {
    const absl::Time time = absl::FromUnixMillis(static_cast<int64_t>(1000 + i));
    NoteWithdrawal(StrCat("p", i), time, time + absl::Milliseconds(5), facts);
    ASSERT_LE(facts.withdrawn.size(), kMostWithdrawals);
    ASSERT_TRUE(Check(facts).ok()) << Check(facts);
  }
  for (size_t i = 0; i < count; ++i) {
    const std::optional<Withdrawal> one = facts.WithdrawalOf(StrCat("p", i));
    ASSERT_TRUE(one.has_value()) << i;
    EXPECT_GE(one->time, absl::FromUnixMillis(static_cast<int64_t>(1000 + i))) << i;
    EXPECT_GE(one->until, absl::FromUnixMillis(static_cast<int64_t>(1005 + i))) << i;
  }
  EXPECT_EQ(facts.WithdrawalOf("p73")->time, absl::FromUnixMillis(1073));
  EXPECT_EQ(facts.WithdrawalOf("other")->time, absl::FromUnixMillis(1010)) << "the last that has no place of its own";
  EXPECT_EQ(facts.WithdrawalOf("other")->until, absl::FromUnixMillis(1015));
  EXPECT_EQ(*Decode(Encode(facts)), facts);
}

TEST(UserFactsTest, WhatIsUnknownIsDenied) {
  const UserFacts facts = SomeFacts();
  for (const char* purpose : {"", "market", "marketing2", "Marketing", "news", "region", "zzz"}) {
    EXPECT_FALSE(facts.Consents(purpose, kNow)) << purpose;
    EXPECT_FALSE(UserFacts().Consents(purpose, kNow)) << purpose;
  }
  EXPECT_EQ(facts.Attribute("marketing"), nullptr);
  EXPECT_EQ(UserFacts().Attribute("region"), nullptr);
  ASSERT_NE(facts.Attribute("region"), nullptr);
  EXPECT_EQ(*facts.Attribute("region"), "eu");
}

TEST(UserFactsTest, AllOfMostConsentsAreFound) {
  UserFacts facts;
  for (size_t i = kMostConsents; i > 0; --i) {
    ASSERT_TRUE(Apply({FactsChange::Kind::kGrant, StrCat("p", i)}, facts).ok());
  }
  EXPECT_TRUE(Check(facts).ok()) << Check(facts);
  for (size_t i = 1; i <= kMostConsents; ++i) EXPECT_TRUE(facts.Consents(StrCat("p", i), kNow)) << i;
  const UserFacts before = facts;
  EXPECT_TRUE(absl::IsResourceExhausted(Apply({FactsChange::Kind::kGrant, "other"}, facts)));
  EXPECT_EQ(facts, before);
  EXPECT_TRUE(Apply({FactsChange::Kind::kGrant, "p7", kNow}, facts).ok()) << "that one is there";
  EXPECT_FALSE(facts.Consents("p7", kNow));
}

TEST(UserFactsTest, IsStoredAsDocumented) {
  UserFacts facts;
  facts.consents = {{"marketing"}, {"research", absl::FromUnixMillis(1'798'761'600'000)}};
  facts.attributes = {{"region", "eu"}};
  const std::string text = R"({"consents":{"marketing":null,"research":1798761600000},"attributes":{"region":"eu"}})";
  EXPECT_EQ(Encode(facts), text);
  const absl::StatusOr<UserFacts> decoded = Decode(text);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, facts);
}

TEST(UserFactsTest, ReadsWhatItWrites) {
  for (const UserFacts& facts : {UserFacts(), SomeFacts()}) {
    const absl::StatusOr<UserFacts> decoded = Decode(Encode(facts));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, facts);
  }
}

TEST(UserFactsTest, RefusesWhatItDoesNotWrite) {
  const std::string good = Encode(SomeFacts());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(Decode(good.substr(0, size)).status())) << size;
  }
  for (const char* text : {
           "null",
           "[]",
           "7",
           "{}",
           R"({"consents":{}})",
           R"({"consents":[],"attributes":{}})",
           R"({"consents":{},"attributes":[]})",
           R"({"consents":{"a":true},"attributes":{}})",                  // neither null nor a time
           R"({"consents":{"a":1.5},"attributes":{}})",                   //
           R"({"consents":{"a":1e3},"attributes":{}})",                   //
           R"({"consents":{"a":99999999999999999999},"attributes":{}})",  // beyond all times
           R"({"consents":{"a":18446744073709551615},"attributes":{}})",  //
           R"({"consents":{"a":1,"a":null},"attributes":{}})",            // twice: which one?
           R"({"consents":{"b":null,"a":null},"attributes":{}})",         // binary search would miss one
           R"({"consents":{"a b":null},"attributes":{}})",                //
           R"({"consents":{"":null},"attributes":{}})",                   //
           R"({"consents":{},"attributes":{"a":1}})",                     //
           R"({"consents":{},"attributes":{"a":""}})",                    //
           R"({"consents":{},"attributes":{"a":"x\u0007"}})",             //
           R"({"consents":{},"attributes":{},"more":1})",                 // of a later version, perhaps a denial
           R"({"attributes":{},"consents":{}})",                          //
           R"( {"consents":{},"attributes":{}})",                         //
           "{\"consents\":{},\"attributes\":{\"a\":\"\xff\"}}",
       }) {
    EXPECT_TRUE(absl::IsDataLoss(Decode(text).status())) << text << ": " << Decode(text).status();
  }
  const std::string secret = R"({"consents":{},"attributes":{"iban":"DE02-secret"},"more":1})";
  EXPECT_THAT(std::string(Decode(secret).status().message()), Not(HasSubstr("DE02")));
}

TEST(UserFactsTest, RefusesMoreThanTheMost) {
  std::string consents;
  for (size_t i = 0; i <= kMostConsents; ++i) StrAppend(&consents, i > 0 ? "," : "", "\"p", 100 + i, "\":null");
  EXPECT_TRUE(absl::IsDataLoss(Decode(StrCat("{\"consents\":{", consents, "},\"attributes\":{}}")).status()));
  UserFacts facts;
  facts.attributes = {{"a", std::string(kLongestAttributeValue, 'x')}};
  EXPECT_TRUE(Check(facts).ok());
  facts.attributes[0].second += 'x';
  EXPECT_FALSE(Check(facts).ok());
}

TEST(UserFactsTest, TheLargestFactsFit) {
  UserFacts facts;
  for (size_t i = 0; i < kMostConsents; ++i) {
    facts.consents.push_back(
        {StrCat(std::string(kLongestName - 3, 'p'), 100 + i), absl::FromUnixMillis(-1'000'000'000'000)});
  }
  for (size_t i = 0; i < kMostAttributes; ++i) {
    const std::string value(kLongestAttributeValue, i % 2 == 0 ? '"' : 'x');
    facts.attributes.emplace_back(StrCat(std::string(kLongestName - 3, 'a'), 100 + i), value);
  }
  for (size_t i = 0; i < kMostWithdrawals; ++i) {
    const absl::Time time = absl::FromUnixMillis(5'000'000'000'000);
    NoteWithdrawal(StrCat(std::string(kLongestName - 3, 'w'), 100 + i), time, time + absl::Seconds(1), facts);
  }
  facts.source = FactsSource{std::string(kLongestSource, '\x01'), int64_t{1} << 62, 1 << 30};
  facts.ahead = absl::FromUnixMillis(5'000'000'000'000);
  ASSERT_TRUE(Check(facts).ok()) << Check(facts);
  const std::string text = Encode(facts);
  EXPECT_LE(text.size(), kLongestEncoded);
  const absl::StatusOr<UserFacts> decoded = Decode(text);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, facts);
}

TEST(FactsChangeTest, GrantsAndWithdraws) {
  UserFacts facts = SomeFacts();
  ASSERT_TRUE(Apply({FactsChange::Kind::kWithdraw, "marketing"}, facts).ok());
  EXPECT_FALSE(facts.Consents("marketing", kNow));
  EXPECT_TRUE(facts.Consents("news.weekly", kNow));
  ASSERT_TRUE(Apply({FactsChange::Kind::kGrant, "marketing", kNow + absl::Hours(2)}, facts).ok());
  ASSERT_TRUE(Apply({FactsChange::Kind::kGrant, "a"}, facts).ok());
  EXPECT_TRUE(facts.Consents("marketing", kNow + absl::Hours(1)));
  EXPECT_FALSE(facts.Consents("marketing", kNow + absl::Hours(2)));
  ASSERT_TRUE(Apply({FactsChange::Kind::kSet, "region", {}, "us"}, facts).ok());
  ASSERT_TRUE(Apply({FactsChange::Kind::kRemove, "tenant"}, facts).ok());
  EXPECT_EQ(*facts.Attribute("region"), "us");
  EXPECT_EQ(facts.Attribute("tenant"), nullptr);
  EXPECT_TRUE(Check(facts).ok()) << Check(facts);
}

TEST(FactsChangeTest, WhatChangesNothingIsNoError) {
  UserFacts facts = SomeFacts();
  EXPECT_TRUE(Apply({FactsChange::Kind::kWithdraw, "unheard-of"}, facts).ok());
  EXPECT_TRUE(Apply({FactsChange::Kind::kRemove, "unheard-of"}, facts).ok());
  EXPECT_TRUE(Apply({FactsChange::Kind::kGrant, "marketing"}, facts).ok());
  EXPECT_EQ(facts, SomeFacts());
}

TEST(FactsChangeTest, ReadsTimes) {
  const std::vector<std::pair<std::string, int64_t>> times = {{"2027-01-01", 1'798'761'600'000},
                                                              {"2027-01-01T00:00:00Z", 1'798'761'600'000},
                                                              {"2027-01-01T01:30:00+01:30", 1'798'761'600'000},
                                                              {"2027-01-01T00:00:00.0019Z", 1'798'761'600'001}};
  for (const auto& [text, millis] : times) {
    const absl::StatusOr<absl::Time> time = ParseUntil(text);
    ASSERT_TRUE(time.ok()) << time.status();
    EXPECT_EQ(*time, absl::FromUnixMillis(millis)) << text;
  }
  for (const char* text :
       {"", "2027", "2027-13-01", "2027-02-30", "2027-01-01T", "2027-01-01T00:00:00", "infinite-past",
        "infinite-future", " 2027-01-01", "2027-01-01 ", "1798761600", "01/01/2027"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseUntil(text).status())) << text;
  }
}

TEST(FactsChangeTest, KeepsWhatChangedOfConsentsAndNothingOfAttributes) {
  const FactsChange changes[] = {{FactsChange::Kind::kGrant, "a"},
                                 {FactsChange::Kind::kSet, "iban", {}, "DE02"},
                                 {FactsChange::Kind::kGrant, "b", absl::FromUnixMillis(1'798'761'600'000)},
                                 {FactsChange::Kind::kWithdraw, "c"}};
  EXPECT_EQ(
      HistoryOf(changes, 7, "node:1"),
      R"({"uid":7,"agent":"node:1","granted":[{"purpose":"a"},{"purpose":"b","until":"2027-01-01T00:00:00+00:00"}],)"
      R"("withdrawn":["c"]})");
  EXPECT_EQ(HistoryOf({&changes[1], 1}, 7, "node:1"), "");
}

TEST(FactsChangeTest, RefusesWhatIsMalformed) {
  for (const char* name : {"", "a b", "a/b", "ä", "a\n"}) {
    for (auto kind : {FactsChange::Kind::kGrant, FactsChange::Kind::kWithdraw, FactsChange::Kind::kRemove}) {
      EXPECT_TRUE(absl::IsInvalidArgument(Check({kind, name}))) << name;
    }
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Check({FactsChange::Kind::kGrant, std::string(kLongestName + 1, 'a')})));
  EXPECT_TRUE(Check({FactsChange::Kind::kGrant, std::string(kLongestName, 'a')}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Check({FactsChange::Kind::kGrant, "a", kNow + absl::Nanoseconds(1)})));
  EXPECT_TRUE(absl::IsInvalidArgument(Check({FactsChange::Kind::kSet, "a", {}, ""})));
  EXPECT_TRUE(absl::IsInvalidArgument(Check({FactsChange::Kind::kSet, "a", {}, "\xc3"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Check({FactsChange::Kind::kSet, "a", {}, "x\ny"})));
  EXPECT_TRUE(Check({FactsChange::Kind::kSet, "a", {}, "Zürich"}).ok());
}

}  // namespace
}  // namespace kveil::users
