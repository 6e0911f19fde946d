// Who gains and who loses what from one version of policies to the next.
#include "policy/policy_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/entries.h"
#include "policy/policy_text.h"

namespace kveil::policy {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Lines = std::vector<std::string>;

std::shared_ptr<const Policy> PolicyWith(const std::string& topics, const std::string& more = "") {
  const std::pair<std::string, std::string> file(
      "p.json", R"({"purposes": ["marketing", "research"], )" + more + R"("topics": [)" + topics + "]}");
  const auto policy = Policy::Parse({file});
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *policy : nullptr;
}

// What the command says, changes of topics first.
Lines Said(const Policy& before, const Policy& after) {
  const PolicyDiff diff = Compare(before, after);
  Lines lines;
  for (const TopicChange& change : diff.topics) lines.push_back(TextOf(change));
  for (const AccessChange& change : diff.accesses) lines.push_back(TextOf(change));
  EXPECT_EQ(diff.empty(), lines.empty());
  return lines;
}

constexpr char kSealed[] = R"("seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"})";
std::string TopicT(const std::string& read, const std::string& more = "") {
  return R"({"name": "t", )" + std::string(kSealed) + R"(, "read": [)" + read + "]" + more + "}";
}
Lines SaidOf(const std::string& before, const std::string& after) {
  return Said(*PolicyWith(TopicT(before)), *PolicyWith(TopicT(after)));
}
std::string Unit(const std::string& name, const std::string& where = "") {
  return R"({"workload": {"unit": ")" + name + R"(.service"})" +
         (where.empty() ? "" : R"(, "where": {)" + where + "}") + "}";
}

TEST(PolicyDiffTest, SaysNothingWhereNothingChanges) {
  const std::string read = Unit("a") + "," + Unit("b", R"("users": ["1", "2"], "newerThan": "1h")") + "," +
                           Unit("c", R"("attribute": {"name": "region", "oneOf": ["eu", "us"]})");
  EXPECT_THAT(SaidOf(read, read), IsEmpty());
  const std::string reordered = Unit("c", R"("attribute": {"name": "region", "oneOf": ["us", "eu"]})") + "," +
                                Unit("b", R"("newerThan": "1h", "users": ["2"])") + "," + Unit("a") + "," +
                                Unit("b", R"("newerThan": "1h", "users": ["1"])");
  EXPECT_THAT(SaidOf(read, reordered), IsEmpty()) << "the same records in other words";
}

TEST(PolicyDiffTest, SaysUnderWhichKek) {
  const auto with = [](const std::string& kek) {
    return PolicyWith(R"({"name": "t", "read": [], "seal": {"scope": "topic")" + kek + "}}");
  };
  const auto payments = with(R"(, "kek": {"provider": "payments", "key": "${topic}"})");
  EXPECT_THAT(Said(*with(""), *payments), ElementsAre("name t: is sealed with the topic's key under the KEK "
                                                      "payments/${topic}, no longer with the topic's key"));
  EXPECT_THAT(Said(*payments, *payments), ElementsAre());
  const auto ofUsers = [](const std::string& kek) {
    return PolicyWith(R"({"name": "t", "read": [], "seal": {"scope": "user", "user": {"key": true})" + kek + "}}");
  };
  EXPECT_THAT(Said(*ofUsers(""), *ofUsers(R"(, "kek": {"provider": "payments", "key": "k"})")),
              ElementsAre("name t: is sealed with the user's key in the keyspace t under the KEK payments/k, no longer "
                          "with the user's key in the keyspace t"));
}

TEST(PolicyDiffTest, SaysWhatBecomesOfHiddenRecords) {
  const std::string read = Unit("a", R"("users": ["1"])");
  const auto said = [&](const std::string& before, const std::string& after) {
    const std::string start = R"(, "onDenied": )";
    return Said(*PolicyWith(TopicT(read, start + before)), *PolicyWith(TopicT(read, start + after)));
  };
  EXPECT_THAT(said(R"("drop")", R"("sealed")"), ElementsAre("name t: records that rules deny are kept sealed"));
  EXPECT_THAT(said(R"("drop")", R"("error")"),
              ElementsAre("name t: records that rules deny are answered with an error"));
  EXPECT_THAT(said(R"("mask")", R"("null")"),
              ElementsAre("name t: records that rules deny are kept with a null value"));
  EXPECT_THAT(said(R"("mask")", R"({"mask": {"a": 1}})"),
              ElementsAre(R"(name t: records that rules deny are kept with the value {"a":1})"));
  EXPECT_THAT(said(R"({"mask": {"a": 1}})", R"({"mask":{"a":1}})"), IsEmpty());
}

TEST(PolicyDiffTest, TellsClaimsApart) {
  const auto claiming = [](const std::string& claimed) {
    return R"({"workload": {"unit": "a.service", "claimed": {)" + claimed + "}}}";
  };
  const std::string anna = claiming(R"("principal": "User:anna")");
  EXPECT_THAT(SaidOf(Unit("a"), anna), ElementsAre("name t: unit a.service loses every record"));
  EXPECT_THAT(SaidOf(anna, claiming(R"("principal": "User:anna", "clientId": "x")")),
              ElementsAre("name t: unit a.service that claims principal \"User:anna\" loses every record"));
  // Of texts that are not escaped, these would read alike.
  const std::string trick = claiming(R"("principal": "User:anna\" that claims client id \"x")");
  EXPECT_THAT(SaidOf(trick, claiming(R"("principal": "User:anna", "clientId": "x")")), ::testing::SizeIs(2));
  EXPECT_THAT(SaidOf("", R"({"workload": {"claimed": {"certificate": "CN=a"}}})"),
              ElementsAre("name t: every workload that claims certificate \"CN=a\" gains every record"));
}

TEST(PolicyDiffTest, SaysWhoGainsAndWhoLosesUsers) {
  EXPECT_THAT(SaidOf(Unit("a", R"("users": ["1", "2"])"), Unit("a", R"("users": ["2", "3", "4"])")),
              ElementsAre("name t: unit a.service gains users 3, 4, and loses user 1"));
  EXPECT_THAT(SaidOf(Unit("a"), Unit("b")),
              ElementsAre("name t: unit a.service loses every record", "name t: unit b.service gains every record"));
  EXPECT_THAT(SaidOf("", R"({"any": true})"), ElementsAre("name t: every workload gains every record"));
}

TEST(PolicyDiffTest, SaysWhatIsLeftOfEveryRecord) {
  const std::string some = Unit("a", R"("consent": "marketing")");
  EXPECT_THAT(SaidOf(Unit("a"), some),
              ElementsAre("name t: unit a.service loses every record but users who consent to marketing"));
  EXPECT_THAT(SaidOf(some, Unit("a")),
              ElementsAre("name t: unit a.service gains every record, not only users who consent to marketing"));
}

// Long lists are cut off in words, and compared as a whole.
TEST(PolicyDiffTest, ComparesAllThatIsListed) {
  EXPECT_THAT(
      SaidOf(Unit("a", R"("header": {"name": "h", "oneOf": ["a", "b", "c", "d", "e", "f"]})"),
             Unit("a", R"("header": {"name": "h", "oneOf": ["a", "b", "c", "d", "e", "g"]})")),
      ElementsAre("name t: unit a.service gains header h is one of a, b, c, d, e and 1 more, and loses header h "
                  "is one of a, b, c, d, e and 1 more"));
}

TEST(PolicyDiffTest, KnowsThatOneSelectorIsWithinAnother) {
  const std::string any = R"({"any": true, "where": {"newerThan": "1h"}})";
  EXPECT_THAT(SaidOf(Unit("a", R"("newerThan": "1h")"), any),
              ElementsAre("name t: every other workload gains newer than 1h"))
      << "unit a has what it had";
}

TEST(PolicyDiffTest, KnowsPurposes) {
  const std::string workload = R"("workloads": [{"workload": {"unit": "ads.service"}, "purpose": "marketing"}], )";
  const std::string topic = TopicT(R"({"purpose": true})");
  EXPECT_THAT(Said(*PolicyWith(topic), *PolicyWith(topic, workload)),
              ElementsAre("name t: unit ads.service gains users who consent to marketing"));
}

TEST(PolicyDiffTest, SaysWhoMayWrite) {
  EXPECT_THAT(
      Said(*PolicyWith(TopicT("")), *PolicyWith(TopicT("", R"(, "write": [{"workload": {"unit": "a.service"}}])"))),
      ElementsAre("name t: every other workload loses writing every record"));
}

TEST(PolicyDiffTest, SaysWhatBecomesOfTopics) {
  const auto empty = PolicyWith(R"({"name": "other", "read": []})");
  const auto with = PolicyWith(R"({"name": "other", "read": []}, )" + TopicT(""));
  EXPECT_THAT(
      Said(*with, *empty),
      ElementsAre("name t: is not protected any more: its records pass in clear text, and every workload reads them",
                  "name t: every workload gains every record"));
  EXPECT_THAT(Said(*empty, *with), ElementsAre("name t: is protected", "name t: every workload loses every record"));
  EXPECT_THAT(Said(*with, *PolicyWith(R"({"name": "other", "read": []}, {"name": "t", "read": []})")),
              ElementsAre("name t: is not sealed any more: its records go to the broker in clear text"));
  EXPECT_THAT(Said(*PolicyWith(TopicT("")), *PolicyWith(TopicT("", R"(, "onErased": "mask", "plaintext": "drop")"))),
              ElementsAre("name t: records of erased users are kept without their value",
                          "name t: records without an envelope are left out"));
  const std::string ofUser = R"({"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [])";
  const auto stays = PolicyWith(ofUser + "}");
  const auto newKey = PolicyWith(ofUser + R"(, "afterErase": "newKey"})");
  EXPECT_THAT(Said(*stays, *newKey),
              ElementsAre("name t: new records of erased users are sealed under new keys, which readers get"));
  EXPECT_THAT(Said(*newKey, *stays),
              ElementsAre("name t: new records of erased users stay unreadable until the users are readmitted"));
  const auto refusing = PolicyWith(R"({"name": "other", "read": []})", R"("unselected": "refuse", )");
  EXPECT_THAT(Said(*empty, *refusing), ElementsAre("topics that no entry selects: may not be written to any more"));
}

TEST(PolicyDiffTest, SaysHowRecordsAreSealed) {
  const auto sealed = [](const std::string& seal, const std::string& more = "") {
    return PolicyWith(R"({"name": "t", "read": [], "seal": {)" + seal + "}" + more + "}");
  };
  const std::string ofTopic = R"("scope": "topic", "compress": )";
  const auto compressed = [&](const std::string& how) { return sealed(ofTopic + how); };
  const std::string values = "name t: values of compressed batches are ";
  EXPECT_THAT(Said(*compressed(R"("never")"), *compressed(R"("always")")),
              ElementsAre(values + "always compressed before they are sealed"));
  EXPECT_THAT(Said(*compressed(R"("auto")"), *compressed(R"("never")")),
              ElementsAre(values + "not compressed before they are sealed"));
  EXPECT_THAT(Said(*compressed(R"("never")"), *sealed(R"("scope": "topic")")),
              ElementsAre(values + "compressed before they are sealed where that pays"));
  const auto users = [&](const std::string& user) { return sealed(R"("scope": "user", "user": )" + user); };
  EXPECT_THAT(Said(*users(R"({"value": "/a"})"), *users(R"({"value": ["/b", "/a"]})")),
              ElementsAre("name t: whose a record is: user at /b, else /a of the value; no longer: user at /a of the "
                          "value"));
  const std::string scope = R"("scope": "topic")";
  EXPECT_THAT(Said(*sealed(scope), *sealed(scope, R"(, "origin": "o")")), ElementsAre("name t: mirrors the topic o"));
  EXPECT_THAT(Said(*sealed(scope, R"(, "origin": "o")"), *sealed(scope)),
              ElementsAre("name t: mirrors the topic o no longer"));
}

TEST(PolicyDiffTest, SaysWhichPurposesThereAre) {
  const auto declaring = [](const std::string& purposes) {
    return *Policy::Parse({{{"p.json", R"({"purposes": [)" + purposes + "]}"}}});
  };
  EXPECT_THAT(Said(*declaring(R"("ads", "research")"), *declaring(R"("marketing", "ads")")),
              ElementsAre("purpose marketing: users may consent to it",
                          "purpose research: users may not consent to it any more"));
}

TEST(PolicyDiffTest, SaysThatPatternsAreTriedInAnotherOrder) {
  const std::string a = R"({"pattern": "a.*", "read": []})", b = R"({"pattern": ".*b", "read": []})";
  EXPECT_THAT(Said(*PolicyWith(a + "," + b), *PolicyWith(b + "," + a)),
              ElementsAre("patterns: are tried in another order: of several that a topic fits, the first counts"));
  const std::string fresh = R"({"pattern": "c", "read": [{"any": true}]})";
  EXPECT_THAT(Said(*PolicyWith(a + "," + b), *PolicyWith(a + "," + fresh + "," + b)),
              ElementsAre("pattern c: is protected"));
}

// Another entry takes the place of one that is gone.
TEST(PolicyDiffTest, FindsTheEntryThatCountsInstead) {
  const std::string prefix = R"({"prefix": "t", )" + std::string(kSealed) + R"(, "read": [)" + Unit("a") + "]}";
  EXPECT_THAT(Said(*PolicyWith(prefix + "," + TopicT(Unit("b"))), *PolicyWith(prefix)),
              ElementsAre("name t: unit a.service gains every record", "name t: unit b.service loses every record"));
}

}  // namespace
}  // namespace kveil::policy
