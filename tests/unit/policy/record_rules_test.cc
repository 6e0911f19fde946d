// Which records the conditions of `where` let a reader have.
#include "policy/record_rules.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <functional>
#include <random>

#include "absl/strings/str_format.h"
#include "base/text.h"
#include "policy/explain.h"
#include "policy/policy.h"

namespace kveil::policy {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using Answer = RecordRules::Answer;

std::string FileOf(const std::string& topic) {
  return R"({"purposes": ["marketing", "research"], "topics": [)" + topic + "]}";
}
// A topic whose records are of users, with these entries of `read`.
std::string TopicOf(const std::string& entries) {
  return R"({"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [)" + entries + "]}";
}
std::string Entry(const std::string& where) { return R"({"any": true, "where": )" + where + "}"; }
std::string EntryOfShop(const std::string& where) {
  return R"({"workload": {"namespace": "shop"}, "where": )" + where + "}";
}

absl::StatusOr<std::shared_ptr<const Policy>> Parse(const std::string& topic) {
  const std::pair<std::string, std::string> file("p.json", FileOf(topic));
  return Policy::Parse({file});
}
std::shared_ptr<const Policy> PolicyOf(const std::string& topic) {
  auto policy = Parse(topic);
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *std::move(policy) : nullptr;
}

// What a record says of itself. Headers by name.
struct Record {
  std::string user;
  std::vector<std::pair<std::string, std::string>> headers;
  std::optional<milliseconds> age;
  std::string value;
  std::optional<users::UserFacts> facts;
};

users::UserFacts FactsWith(std::vector<users::Consent> consents,
                           std::vector<std::pair<std::string, std::string>> attributes = {}) {
  users::UserFacts facts{std::move(consents), std::move(attributes)};
  EXPECT_TRUE(users::Check(facts).ok()) << users::Check(facts);
  return facts;
}
const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

class RecordRulesTest : public testing::Test {
 protected:
  void Use(const std::string& entries) {
    policy_ = PolicyOf(TopicOf(entries));
    ASSERT_NE(policy_, nullptr);
    topic_ = policy_->Find("t");
    ASSERT_NE(topic_->rules, nullptr);
  }
  RecordRules::Outside OutsideOf(const Record& record) const {
    RecordRules::Outside outside;
    outside.age = record.age;
    for (size_t i = 0; i < topic_->rules->headers().size(); ++i) {
      for (const auto& [name, value] : record.headers) {
        if (name == topic_->rules->headers()[i]) outside.headers[i] = value;
      }
    }
    return outside;
  }
  // All but the value.
  Answer Decide(const Record& record, EntrySet& entries, const identity::Workload& workload = {}) {
    topic_->rules->NarrowByOutside(OutsideOf(record), entries, work_);
    topic_->rules->NarrowByUser(topic_->rules->NumberOf(record.user), entries);
    const users::UserFacts* const facts = record.facts.has_value() ? &*record.facts : nullptr;
    topic_->rules->Narrow(topic_->rules->MetBy(facts, kNow, workload, work_), entries);
    return topic_->rules->AnswerOf(entries);
  }
  bool MayHave(const Record& record, const identity::Workload& workload = {}) {
    EntrySet entries;
    if (ReadableBy(*topic_, workload, entries) != Readable::kSome) return false;
    const Answer answer = Decide(record, entries, workload);
    if (answer != Answer::kDependsOnValue) return answer == Answer::kMayRead;
    std::string padded = record.value + std::string(64, ' ');
    return topic_->rules->FitsValue(AsBytes(padded).first(record.value.size()), finder_, entries, work_);
  }

  std::shared_ptr<const Policy> policy_;
  const TopicPolicy* topic_ = nullptr;
  formats::JsonFinder finder_;
  uint64_t work_ = 0;
};

TEST_F(RecordRulesTest, LetThroughTheUsersThatAnEntryNames) {
  Use(Entry(R"({"users": ["38", "39"]})"));
  EXPECT_TRUE(MayHave({.user = "38"}));
  EXPECT_TRUE(MayHave({.user = "39"}));
  EXPECT_FALSE(MayHave({.user = "3"}));
  EXPECT_FALSE(MayHave({})) << "a record of nobody";
}

TEST_F(RecordRulesTest, SpellUsersAsTheSealDoes) {
  policy_ = PolicyOf(R"({"name": "t", "seal": {"scope": "user", "user": {"key": true, "as": "uuid"}},
                     "read": [{"any": true, "where": {"users": ["6BA7B810-9DAD-11D1-80B4-00C04FD430C8"]}}]})");
  EXPECT_EQ(policy_->Find("t")->rules->users().at(0), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
}

TEST_F(RecordRulesTest, LetThroughUsersWhoConsentToOneOfThePurposes) {
  Use(Entry(R"({"consent": "marketing"})"));
  EXPECT_TRUE(MayHave({.facts = FactsWith({{"marketing"}})}));
  EXPECT_TRUE(MayHave({.facts = FactsWith({{"marketing"}, {"research"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"research"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({})}));
  EXPECT_FALSE(MayHave({})) << "nothing is known of the user";
  Use(Entry(R"({"consent": ["marketing", "research"]})"));
  EXPECT_TRUE(MayHave({.facts = FactsWith({{"research"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"other"}})}));
  EXPECT_FALSE(MayHave({}));
}

TEST_F(RecordRulesTest, KnowWhenAConsentEnds) {
  Use(Entry(R"({"consent": "marketing"})"));
  const absl::Duration millisecond = absl::Milliseconds(1);
  EXPECT_TRUE(MayHave({.facts = FactsWith({{"marketing", kNow + millisecond}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"marketing", kNow}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"marketing", kNow - absl::Hours(1)}})}));
}

TEST_F(RecordRulesTest, CompareAttributesOfUsers) {
  Use(Entry(R"({"attribute": {"name": "region", "oneOf": ["eu", "us"]}})"));
  EXPECT_TRUE(MayHave({.facts = FactsWith({}, {{"region", "eu"}})}));
  EXPECT_TRUE(MayHave({.facts = FactsWith({}, {{"region", "us"}, {"tenant", "a"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({}, {{"region", "EU"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"eu"}}, {{"tenant", "eu"}})}));
  EXPECT_FALSE(MayHave({}));
  Use(Entry(R"({"consent": "marketing", "attribute": [{"name": "region", "equals": "eu"},
                                                      {"name": "tenant", "equals": "a"}]})"));
  EXPECT_TRUE(MayHave({.facts = FactsWith({{"marketing"}}, {{"region", "eu"}, {"tenant", "a"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"marketing"}}, {{"region", "eu"}})}));
  EXPECT_FALSE(MayHave({.facts = FactsWith({{"research"}}, {{"region", "eu"}, {"tenant", "a"}})}));
}

TEST_F(RecordRulesTest, CompareAttributesWithTheReadersLabels) {
  Use(EntryOfShop(R"({"attribute": {"name": "tenant", "label": "example.com/tenant"}})"));
  const auto podWith = [](std::vector<std::pair<std::string, std::string>> labels) {
    identity::Pod pod;
    pod.nameSpace = "shop";
    pod.labels = std::move(labels);
    identity::Workload workload;
    workload.pod = std::make_shared<const identity::Pod>(std::move(pod));
    return workload;
  };
  const Record ofA{.facts = FactsWith({}, {{"tenant", "a"}})};
  EXPECT_TRUE(MayHave(ofA, podWith({{"example.com/tenant", "a"}})));
  EXPECT_FALSE(MayHave(ofA, podWith({{"example.com/tenant", "b"}})));
  EXPECT_FALSE(MayHave(ofA, podWith({{"tenant", "a"}})));
  EXPECT_FALSE(MayHave(ofA, podWith({})));
  EXPECT_FALSE(MayHave(ofA)) << "no pod";
  EXPECT_FALSE(MayHave({}, podWith({{"example.com/tenant", "a"}})));
  EXPECT_FALSE(MayHave({.facts = FactsWith({})}, podWith({{"example.com/tenant", ""}})));
}

// A pod may have tens of thousands of labels, and the facts of all users of a batch may differ.
TEST_F(RecordRulesTest, FindALabelAmongVeryManyAndCountTheWork) {
  Use(EntryOfShop(R"({"attribute": [{"name": "a", "label": "l00007"}, {"name": "b", "label": "l49999"}]})"));
  identity::Pod pod;
  pod.nameSpace = "shop";
  for (int i = 0; i < 50'000; ++i) pod.labels.emplace_back(absl::StrFormat("l%05d", i), "x");
  pod.labels[7].second = "y";
  identity::Workload workload;
  workload.pod = std::make_shared<const identity::Pod>(std::move(pod));
  EXPECT_TRUE(MayHave({.facts = FactsWith({}, {{"a", "y"}, {"b", "x"}})}, workload));
  EXPECT_FALSE(MayHave({.facts = FactsWith({}, {{"a", "x"}, {"b", "x"}})}, workload));
  work_ = 0;
  constexpr uint64_t kFacts = 5'000;
  for (uint64_t i = 0; i < kFacts; ++i) {
    EXPECT_TRUE(MayHave({.facts = FactsWith({{"marketing"}}, {{"a", "y"}, {"b", "x"}})}, workload));
  }
  EXPECT_EQ(work_ % kFacts, 0u) << "the same for each";
  EXPECT_GE(work_ / kFacts, 5 * 80u) << "a consent, two attributes, two labels";
  EXPECT_LE(work_ / kFacts, 5 * 200u);
}

TEST_F(RecordRulesTest, CompareWholeTextsOfHeaders) {
  Use(Entry(R"({"header": {"name": "region", "equals": "eu"}})"));
  EXPECT_TRUE(MayHave({.headers = {{"region", "eu"}}}));
  EXPECT_FALSE(MayHave({.headers = {{"region", "eu "}}}));
  EXPECT_FALSE(MayHave({.headers = {{"region", "EU"}}}));
  EXPECT_FALSE(MayHave({.headers = {{"Region", "eu"}}}));
  EXPECT_FALSE(MayHave({}));
  Use(Entry(R"({"header": {"name": "region", "matches": "eu-[a-z]+"}})"));
  EXPECT_TRUE(MayHave({.headers = {{"region", "eu-west"}}}));
  EXPECT_FALSE(MayHave({.headers = {{"region", "xeu-west"}}})) << "the whole text has to match";
  EXPECT_FALSE(MayHave({.headers = {{"region", "eu-west1"}}}));
  Use(Entry(StrCat(R"({"header": {"name": "region", "oneOf": ["x", ")", std::string(1000, 'y'), R"("]}})")));
  EXPECT_TRUE(MayHave({.headers = {{"region", std::string(1000, 'y')}}}));
  Use(Entry(R"({"header": {"name": "region", "matches": "(?s).*"}})"));
  EXPECT_TRUE(MayHave({.headers = {{"region", std::string(kLongestMatched, 'x')}}}));
  EXPECT_FALSE(MayHave({.headers = {{"region", std::string(kLongestMatched + 1, 'x')}}}));
}

TEST_F(RecordRulesTest, LookIntoTheValue) {
  Use(Entry(R"({"value": {"pointer": "/order/state", "oneOf": ["paid", 7, -0.5]}})"));
  EXPECT_TRUE(MayHave({.value = R"({"order": {"state": "paid"}})"}));
  EXPECT_TRUE(MayHave({.value = R"({"order": {"state": "p\u0061id"}})"})) << "the same text in another spelling";
  EXPECT_TRUE(MayHave({.value = R"({"order": {"state": 7}})"}));
  EXPECT_TRUE(MayHave({.value = R"({"order": {"state": 7.0}})"})) << "the same number in another spelling";
  EXPECT_TRUE(MayHave({.value = R"({"order": {"state": -5e-1}})"}));
  EXPECT_FALSE(MayHave({.value = R"({"order": {"state": "7"}})"})) << "a text is no number";
  EXPECT_FALSE(MayHave({.value = R"({"order": {"state": "open"}})"}));
  EXPECT_FALSE(MayHave({.value = R"({"order": {"state": true}})"}));
  EXPECT_FALSE(MayHave({.value = R"({"order": {"state": null}})"}));
  EXPECT_FALSE(MayHave({.value = R"({"order": ["paid"]})"}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "paid"})"}));
}

// Two readers must never see different values under one rule.
TEST_F(RecordRulesTest, DenyWhatReadersMayReadInTwoWays) {
  Use(Entry(R"({"value": {"pointer": "/state", "equals": "paid"}})"));
  EXPECT_TRUE(MayHave({.value = R"({"state": "paid"})"}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "paid", "state": "open"})"}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "paid", "State": "open"})"}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "paid", "st\u0061te": "open"})"}));
  EXPECT_FALSE(MayHave({.value = R"({"State": "paid"})"}));
  EXPECT_FALSE(MayHave({.value = "paid"}));
  EXPECT_FALSE(MayHave({.value = ""}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "paid)"}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "paid\ud800"})"}));
  EXPECT_FALSE(MayHave({.value = R"({"state": "open"} {"state": "paid"})"}));
}

TEST_F(RecordRulesTest, KnowRangesOfNumbers) {
  Use(Entry(R"({"value": {"pointer": "/n", "range": {"min": 10, "max": 20.5}}})"));
  for (const char* inside : {"10", "20.5", "1e1", "15"})
    EXPECT_TRUE(MayHave({.value = StrCat("{\"n\":", inside, "}")}));
  for (const char* outside : {"9.999", "20.50001", "-15", "1e999", "\"15\"", "[15]"}) {
    EXPECT_FALSE(MayHave({.value = StrCat("{\"n\":", outside, "}")})) << outside;
  }
  Use(Entry(R"({"value": {"pointer": "/n", "range": {"min": 0}}})"));
  EXPECT_TRUE(MayHave({.value = R"({"n": 1e300})"}));
  EXPECT_TRUE(MayHave({.value = R"({"n": -0})"}));
  EXPECT_FALSE(MayHave({.value = R"({"n": 1e400})"})) << "some readers see infinity, others an error";
}

TEST_F(RecordRulesTest, TakeFramingOffTheValue) {
  Use(Entry(R"({"value": {"pointer": "/n", "framing": "confluent", "equals": 1}})"));
  EXPECT_TRUE(MayHave({.value = std::string("\0\0\0\0\7", 5) + R"({"n": 1})"}));
  EXPECT_FALSE(MayHave({.value = R"({"n": 1})"}));
}

TEST_F(RecordRulesTest, KnowAges) {
  Use(Entry(R"({"olderThan": "24h", "newerThan": "48h"})"));
  EXPECT_FALSE(MayHave({.age = hours(24) - milliseconds(1)}));
  EXPECT_TRUE(MayHave({.age = hours(24)}));
  EXPECT_TRUE(MayHave({.age = hours(48) - milliseconds(1)}));
  EXPECT_FALSE(MayHave({.age = hours(48)}));
  EXPECT_FALSE(MayHave({})) << "a record without a time";
  Use(Entry(R"({"newerThan": "1h"})"));
  EXPECT_TRUE(MayHave({.age = -hours(5)})) << "in the future";
  EXPECT_FALSE(MayHave({}));
}

TEST_F(RecordRulesTest, JoinConditionsByAndAndEntriesByOr) {
  Use(Entry(R"({"users": ["38"], "header": {"name": "region", "equals": "eu"}})") + "," +
      Entry(R"({"header": [{"name": "region", "equals": "us"}, {"name": "kind", "equals": "test"}]})"));
  EXPECT_TRUE(MayHave({.user = "38", .headers = {{"region", "eu"}}}));
  EXPECT_FALSE(MayHave({.user = "38"}));
  EXPECT_FALSE(MayHave({.user = "38", .headers = {{"region", "us"}}}));
  EXPECT_FALSE(MayHave({.user = "39", .headers = {{"region", "eu"}}}));
  EXPECT_TRUE(MayHave({.user = "39", .headers = {{"region", "us"}, {"kind", "test"}}}));
}

TEST_F(RecordRulesTest, CountOnlyEntriesThatFitTheWorkload) {
  Use(R"({"workload": {"unit": "a.service"}, "where": {"users": ["1"]}},
         {"workload": {"unit": "b.service"}, "where": {"users": ["2"]}},
         {"workload": {"unit": "c.service"}})");
  const identity::Workload a{.unit = "a.service"}, b{.unit = "b.service"}, c{.unit = "c.service"};
  EXPECT_TRUE(MayHave({.user = "1"}, a));
  EXPECT_FALSE(MayHave({.user = "2"}, a));
  EXPECT_TRUE(MayHave({.user = "2"}, b));
  EXPECT_FALSE(MayHave({.user = "1"}, b));
  EntrySet entries;
  EXPECT_EQ(ReadableBy(*topic_, c, entries), Readable::kEverything);
  EXPECT_EQ(ReadableBy(*topic_, {}, entries), Readable::kNothing);
  EXPECT_TRUE(MayRead(*topic_, a));
}

// Nothing of a record that the value alone does not decide is opened for nothing.
TEST_F(RecordRulesTest, AskForTheValueOnlyWhereItDecides) {
  Use(Entry(R"({"users": ["1"], "value": {"pointer": "/n", "equals": 1}})") + "," + Entry(R"({"users": ["2"]})"));
  const auto decide = [&](const Record& record) {
    EntrySet entries;
    ReadableBy(*topic_, {}, entries);
    return Decide(record, entries);
  };
  EXPECT_EQ(decide({.user = "1"}), Answer::kDependsOnValue);
  EXPECT_EQ(decide({.user = "2"}), Answer::kMayRead);
  EXPECT_EQ(decide({.user = "3"}), Answer::kDenied);
}

// Lookups cost nothing. An expression costs what it may, whether or not it does.
TEST_F(RecordRulesTest, CountTheWorkOfExpressionsAndOfLookingIntoValues) {
  Use(Entry(R"({"header": {"name": "region", "oneOf": ["eu", "us"]}})"));
  EXPECT_FALSE(MayHave({.headers = {{"region", std::string(1000, 'x')}}}));
  EXPECT_EQ(work_, 0u);
  Use(Entry(R"({"header": {"name": "region", "matches": "[a-z]{0,200}"}})"));
  EXPECT_FALSE(MayHave({.headers = {{"region", std::string(1000, 'x')}}}));
  EXPECT_GE(work_, 4 * 200u * 1000);
  EXPECT_LE(work_, 4 * 500u * 1000);
  work_ = 0;
  EXPECT_FALSE(MayHave({.headers = {{"region", std::string(kLongestMatched + 1, 'x')}}}));
  EXPECT_EQ(work_, 0u) << "it is not tried";
  Use(Entry(R"({"value": [{"pointer": "/a", "equals": 1}, {"pointer": "/b", "equals": 1}]})"));
  const std::string value = R"({"a": 1, "b": 1})";
  EXPECT_TRUE(MayHave({.value = value}));
  EXPECT_EQ(work_, 2 * value.size());
}

// An engine that goes back over the text would take for ever, or a stack frame per byte.
TEST_F(RecordRulesTest, TakeTimeInProportionAndLittleStackForAHostileText) {
  const std::string text(kLongestMatched, 'a');
  std::function<void()> matchAll = [&] {
    for (const char* pattern : {"(a+)+b", "(a|aa)+b", "(a*)*b", "(?:a?){150}b", "(.*)(.*)(.*)(.*)b", ".*a[ab]{400}b"}) {
      Use(Entry(StrCat(R"({"header": {"name": "h", "matches": ")", pattern, "\"}}")));
      EXPECT_FALSE(MayHave({.headers = {{"h", text}}})) << pattern;
    }
  };
  const auto run = [](void* all) -> void* {
    (*static_cast<std::function<void()>*>(all))();
    return nullptr;
  };
  pthread_attr_t small;
  ASSERT_EQ(::pthread_attr_init(&small), 0);
  ASSERT_EQ(::pthread_attr_setstacksize(&small, 256 << 10), 0);
  pthread_t thread;
  ASSERT_EQ(::pthread_create(&thread, &small, run, &matchAll), 0);
  ::pthread_join(thread, nullptr);
  ::pthread_attr_destroy(&small);
}

// The commands decide entry by entry, as a reader of the documentation would.
TEST_F(RecordRulesTest, AnswerAsOneEntryAfterTheOtherDoes) {
  std::mt19937 random(7);
  const auto pick = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  const auto text = [&] { return StrCat("t", pick(3)); };
  const auto where = [&] {
    std::vector<std::string> parts;
    if (pick(2) == 0) parts.push_back(StrCat(R"("users": ["u)", pick(4), R"("])"));
    if (pick(3) == 0)
      parts.push_back(pick(2) == 0 ? R"("consent": "marketing")" : R"("consent": ["marketing", "research"])");
    if (pick(4) == 0) parts.push_back(StrCat(R"("attribute": {"name": "region", "equals": ")", text(), "\"}"));
    if (pick(3) == 0) parts.push_back(StrCat(R"("olderThan": ")", 1 + pick(3), R"(h")"));
    if (pick(3) == 0) parts.push_back(StrCat(R"("newerThan": ")", 2 + pick(3), R"(h")"));
    if (pick(2) == 0) {
      parts.push_back(StrCat(R"("header": [{"name": "a", "equals": ")", text(), R"("}, {"name": "b", )",
                             pick(2) == 0 ? R"("matches": "t[01]"}])" : R"("oneOf": ["t0", "t2"]}])"));
    }
    if (pick(2) == 0) {
      parts.push_back(StrCat(R"("value": [{"pointer": "/x", "equals": ")", text(), R"("}, {"pointer": "/y", )",
                             pick(2) == 0 ? R"("range": {"min": 1}}])" : R"("oneOf": [0, 2, "t1"]}])"));
    }
    if (parts.empty()) parts.push_back(R"("users": ["u9"])");
    std::string joined;
    for (const std::string& part : parts) StrAppend(&joined, joined.empty() ? "" : ", ", part);
    return "{" + joined + "}";
  };
  int met = 0;
  for (const int entries : {1, 2, 60, 64, 65, 130}) {
    std::string list;
    // Many entries would let everything through: those beyond a few name users that no record is of.
    for (int i = 0; i < entries; ++i) {
      StrAppend(&list, list.empty() ? "" : ", ",
                Entry(i % 16 == 0 ? where() : StrCat(R"({"users": ["x)", i, R"("], "newerThan": "9h"})")));
    }
    Use(list);
    for (int i = 0; i < 400; ++i) {
      Record record{.user = StrCat("u", pick(5))};
      if (pick(4) > 0) record.headers.emplace_back("a", text());
      if (pick(4) > 0) record.headers.emplace_back("b", text());
      if (pick(3) > 0) {
        record.facts.emplace();
        if (pick(2) == 0) record.facts->consents.push_back({"marketing"});
        if (pick(2) == 0) record.facts->consents.push_back({"research"});
        if (pick(2) == 0) record.facts->attributes.emplace_back("region", text());
      }
      if (pick(4) > 0) record.age = milliseconds(hours(pick(6)));
      record.value = StrCat(R"({"x": ")", text(), R"(", "y": )", pick(3) == 0 ? "\"t1\"" : StrCat(pick(3)), "}");
      DescribedRecord described;
      described.user = record.user;
      if (record.facts.has_value()) {
        for (const users::Consent& consent : record.facts->consents) described.consents.push_back(consent.purpose);
        described.attributes = record.facts->attributes;
      }
      described.headers = record.headers;
      described.age = record.age;
      described.value = record.value;
      const bool expected = ExplainRecord(topic_, {}, described).readable == Readable::kEverything;
      EXPECT_EQ(MayHave(record), expected) << list << "\n" << record.user << record.value;
      met += expected ? 1 : 0;
    }
  }
  EXPECT_GT(met, 200);
  EXPECT_LT(met, 2200);
}

void ExpectRefused(const std::string& topic, const std::string& error) {
  const auto policy = Parse(topic);
  EXPECT_FALSE(policy.ok()) << topic;
  EXPECT_NE(std::string(policy.status().message()).find(error), std::string::npos) << policy.status();
}

TEST(WhereTest, RefusesWhatIsNeverMet) {
  ExpectRefused(TopicOf(Entry(R"({"header": {"name": "h", "matches": "("}})")), "/matches: expected an RE2 pattern (");
  ExpectRefused(TopicOf(Entry(R"({"header": {"name": "h", "matches": "((a{100}){10}){10}"}})")),
                "/matches: expected an RE2 pattern (");
  ExpectRefused(TopicOf(Entry(R"({"header": {"name": "h", "matches": "[a-z]{900}x*[0-9]{200}"}})")),
                "a simpler pattern");
  ExpectRefused(TopicOf(Entry(R"({"value": {"pointer": "/n", "range": {"min": 2, "max": 1}}})")),
                "\"min\" is above \"max\"");
  ExpectRefused(TopicOf(Entry(R"({"header": [{"name": "h", "equals": "a"}, {"name": "h", "equals": "b"}]})")),
                "/header/1/name: this entry has a condition for this header already");
  ExpectRefused(TopicOf(Entry(R"({"value": [{"pointer": "/n", "equals": 1}, {"pointer": "/n", "equals": 2}]})")),
                "/value/1: this entry has a condition for this place already");
}

TEST(WhereTest, RefusesUsersWhereRecordsHaveNone) {
  constexpr char kError[] =
      "/where/users: only the records of a topic with \"seal\" and the scope \"user\" have a user";
  ExpectRefused(R"({"name": "t", "seal": {"scope": "topic"}, "read": [{"any": true, "where": {"users": ["1"]}}]})",
                kError);
  ExpectRefused(R"({"name": "t", "read": [{"any": true, "where": {"users": ["1"]}}]})", kError);
  ExpectRefused(R"({"name": "t", "seal": {"scope": "user", "user": {"key": true, "as": "uuid"}},
                    "read": [{"any": true, "where": {"users": ["38"]}}]})",
                "/where/users/0: ");
}

TEST(WhereTest, RefusesFactsWhereRecordsHaveNoUser) {
  constexpr char kError[] = "only the records of a topic with \"seal\" and the scope \"user\" have a user";
  for (const char* where :
       {R"("where": {"consent": "marketing"})", R"("where": {"attribute": {"name": "a", "equals": "b"}})"}) {
    ExpectRefused(StrCat(R"({"name": "t", "seal": {"scope": "topic"}, "read": [{"any": true, )", where, "}]}"), kError);
  }
  ExpectRefused(R"({"name": "t", "read": [{"purpose": true}]})", StrCat("/read/0/purpose: ", kError));
  ExpectRefused(TopicOf(Entry(R"({"attribute": [{"name": "a", "equals": "b"}, {"name": "a", "label": "c"}]})")),
                "/attribute/1/name: this entry has a condition for this attribute already");
}

// A purpose that is misspelled would never be granted, or by mistake.
TEST(WhereTest, RefusesPurposesThatNobodyDeclares) {
  ExpectRefused(TopicOf(Entry(R"({"users": ["1"]})") + "," + Entry(R"({"consent": ["research", "marketng"]})")),
                "p.json: /topics/0/read/1/where/consent: unknown purpose \"marketng\", did you mean \"marketing\"?");
  ExpectRefused(TopicOf(Entry(R"({"consent": "billing-and-more"})")),
                "unknown purpose \"billing-and-more\", which no file lists in \"purposes\"");
}

TEST(WhereTest, RefusesConditionsOnWhatIsWrittenInTheClear) {
  ExpectRefused(
      R"({"name": "t", "read": [], "write": [{"any": true, "where": {"header": {"name": "a", "equals": "b"}}}]})",
      "/write: only the records of a topic with \"seal\" are looked into");
  ExpectRefused(R"({"name": "t", "seal": {"scope": "user", "user": {"key": true}},
                    "write": [{"any": true, "where": {"consent": "marketng"}}]})",
                "p.json: /topics/0/write/0/where/consent: unknown purpose \"marketng\"");
}

TEST(WhereTest, RefusesOnDeniedWhereNothingIsDenied) {
  ExpectRefused(R"({"name": "t", "read": [{"any": true}], "onDenied": "mask"})",
                "/onDenied: no entry of \"read\" has a \"where\"");
  ExpectRefused(R"({"name": "t", "read": [], "onErased": {"mask": ")" + std::string(999, 'x') + "\"}}",
                "/onErased/mask: a mask has at most 1000 bytes");
}

// A list of `count` entries, each made from its number.
template <typename Make>
std::string Many(size_t count, const Make& make) {
  std::string list;
  for (size_t i = 0; i < count; ++i) StrAppend(&list, i == 0 ? "" : ",", make(i));
  return list;
}

TEST(WhereTest, BoundsWhatATopicMayAsk) {
  struct Bound {
    size_t most;
    std::string what;
    std::function<std::string(size_t)> entry;
  };
  const Bound bounds[] = {
      {kMostReaders, "1024 entries", [](size_t) { return Entry(R"({"users": ["1"]})"); }},
      {kMostPatterns, "16 patterns", [](size_t) { return Entry(R"({"header": {"name": "h", "matches": "a"}})"); }},
      {kMostRanges, "64 ranges", [](size_t) { return Entry(R"({"value": {"pointer": "/n", "range": {"min": 1}}})"); }},
      {kMostAges, "16 different durations",
       [](size_t i) { return Entry(StrCat(R"({"newerThan": ")", i + 1, "s\"}")); }},
      {kMostAttributes, "16 different attributes",
       [](size_t i) { return Entry(StrCat(R"({"attribute": {"name": "a)", i, R"(", "equals": "a"}})")); }},
      {kMostLabels, "64 attributes that equal a label",
       [](size_t) { return EntryOfShop(R"({"attribute": {"name": "a", "label": "b"}})"); }},
      {kMostHeaders, "16 different headers",
       [](size_t i) { return Entry(StrCat(R"({"header": {"name": "h)", i, R"(", "equals": "a"}})")); }},
      {kMostPointers, "16 different places",
       [](size_t i) { return Entry(StrCat(R"({"value": {"pointer": "/n)", i, R"(", "equals": "a"}})")); }},
  };
  for (const Bound& bound : bounds) {
    EXPECT_NE(PolicyOf(TopicOf(Many(bound.most, bound.entry))), nullptr) << bound.what;
    ExpectRefused(TopicOf(Many(bound.most + 1, bound.entry)), "may have at most " + bound.what);
  }
  const auto users = [](size_t count) {
    return TopicOf(Entry(R"({"users": [)" + Many(count, [](size_t i) { return StrCat("\"", i, "\""); }) + "]}"));
  };
  EXPECT_NE(PolicyOf(users(kMostUsers)), nullptr);
  ExpectRefused(users(kMostUsers + 1), "may have at most 10000 ids");
  const auto texts = [](size_t count) {
    return TopicOf(
        Entry(R"({"value": {"pointer": "/n", "oneOf": [)" + Many(count, [](size_t i) { return StrCat(i); }) + "]}}"));
  };
  EXPECT_NE(PolicyOf(texts(kMostTexts)), nullptr);
  ExpectRefused(texts(kMostTexts + 1), "may have at most 10000 texts");
}

}  // namespace
}  // namespace kveil::policy
