// Workloads that have a purpose, what they then read, and what is pointed out of entries that change nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/policy.h"
#include "policy/policy_advice.h"
#include "policy/policy_text.h"

namespace kveil::policy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

identity::Workload PodInLab(std::string app) {
  identity::Pod pod;
  pod.nameSpace = "lab";
  pod.labels = {{"app", std::move(app)}};
  identity::Workload workload;
  workload.pod = std::make_shared<const identity::Pod>(std::move(pod));
  return workload;
}

using NameAndText = std::pair<std::string, std::string>;

constexpr char kPurposes[] = R"({"purposes": ["marketing", "research"], "workloads": [
    {"workload": {"unit": "ads.service"}, "purpose": "marketing"},
    {"workload": {"namespace": "lab", "labels": {"app": "study"}}, "purpose": "research"}]})";
// `more`: further fields of the topic, each with a comma before it.
std::string OfUsers(const std::string& read, const std::string& more = "") {
  return R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [)" + read + "]" +
         more + "}]}";
}

std::string Repeated(const std::string& entry, size_t times) {
  std::string list = entry;
  for (size_t i = 1; i < times; ++i) list += "," + entry;
  return list;
}

absl::StatusOr<std::shared_ptr<const Policy>> ParseAll(const std::vector<std::string>& texts,
                                                       Policy::Extent extent = Policy::Extent::kWhole) {
  std::vector<NameAndText> files;
  for (const std::string& text : texts) files.emplace_back(std::to_string(files.size()) + ".json", text);
  return Policy::Parse(files, extent);
}

// The conditions under which the workload reads; "everything" or "nothing".
std::string WhatReads(const Policy& policy, const identity::Workload& workload) {
  const TopicPolicy& topic = *policy.Find("t");
  EntrySet entries;
  switch (ReadableBy(topic, workload, entries)) {
    case Readable::kNothing:
      return "nothing";
    case Readable::kEverything:
      return "everything";
    case Readable::kSome:
      break;
  }
  std::string text;
  for (size_t i = 0; i < topic.read.size(); ++i) {
    if (entries.Has(i)) text += (text.empty() ? "" : "; ") + TextOf(*topic.read[i].where);
  }
  return text;
}

TEST(PurposeTest, EachWorkloadWithAPurposeReadsThoseWhoConsentToIt) {
  const std::string topics = OfUsers(R"({"workload": {"unit": "audit.service"}},
      {"purpose": true, "where": {"newerThan": "1h"}}, {"workload": {"unit": "x.service"}})");
  for (const auto& texts : {std::vector<std::string>{kPurposes, topics}, {topics, kPurposes}}) {
    const auto policy = ParseAll(texts);
    ASSERT_TRUE(policy.ok()) << policy.status();
    EXPECT_EQ(WhatReads(**policy, {.unit = "ads.service"}), "users who consent to marketing and newer than 1h");
    EXPECT_EQ(WhatReads(**policy, PodInLab("study")), "users who consent to research and newer than 1h");
    EXPECT_EQ(WhatReads(**policy, PodInLab("web")), "nothing");
    EXPECT_EQ(WhatReads(**policy, {.unit = "audit.service"}), "everything");
    EXPECT_EQ(WhatReads(**policy, {.unit = "y.service"}), "nothing");
    const std::vector<ReadRule>& read = (*policy)->Find("t")->read;
    EXPECT_EQ(read.at(2).position, 1u);
    EXPECT_EQ(read.at(3).position, 2u) << "where the file has it";
    EXPECT_EQ((*policy)->purposes(), std::vector<std::string>({"marketing", "research"}));
    EXPECT_TRUE(AdviceOn(**policy).empty());
  }
}

TEST(PurposeTest, WithoutAWorkloadThatHasOneNobodyReads) {
  const auto policy = ParseAll({OfUsers(R"({"purpose": true})")});
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(WhatReads(**policy, {.unit = "ads.service"}), "nothing");
  EXPECT_EQ(WhatReads(**policy, {}), "nothing");
  EXPECT_EQ(AdviceOn(**policy).size(), 1u);
}

TEST(PurposeTest, AWorkloadsPurposeMustBeDeclared) {
  const std::string workload = R"({"workloads": [{"workload": {"unit": "a.service"}, "purpose": "marketng"}]})";
  EXPECT_THAT(std::string(ParseAll({kPurposes, workload}).status().message()),
              HasSubstr("1.json: /workloads/0/purpose: unknown purpose \"marketng\", did you mean \"marketing\"?"));
  EXPECT_TRUE(ParseAll({workload}, Policy::Extent::kPart).ok()) << "another file may declare it";
  EXPECT_THAT(std::string(ParseAll({kPurposes, kPurposes}).status().message()),
              HasSubstr("1.json: /workloads/0: the same workload has its purpose in 0.json: /workloads/0 already"));
}

// Of a workload that is no pod of a known namespace, anybody may choose the labels.
TEST(PurposeTest, ComparesLabelsOfPodsOfKnownNamespacesOnly) {
  const std::string entry = OfUsers(R"({"purpose": true, "where": {"attribute": {"name": "team", "label": "team"}}})");
  EXPECT_THAT(std::string(ParseAll({kPurposes, entry}).status().message()),
              AllOf(HasSubstr("1.json: /topics/0/read/0/where/attribute: \"label\" counts for the workloads of a"),
                    HasSubstr("and 0.json: /workloads/0 is none")));
  const std::string pods = R"({"purposes": ["research"], "workloads": [
      {"workload": {"namespace": "lab"}, "purpose": "research"}]})";
  EXPECT_TRUE(ParseAll({pods, entry}).ok());
}

// Each workload's entry is there, or the policy is refused.
TEST(PurposeTest, NoWorkloadIsLeftOut) {
  std::string users, texts;
  for (size_t i = 0; i < kMostUsers; ++i) {
    users += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\"";
    texts += (i == 0 ? "" : ",") + std::to_string(i);
  }
  const std::string entry = OfUsers(R"({"purpose": true, "where": {"users": [)" + users +
                                    R"(], "value": {"pointer": "/n", "oneOf": [)" + texts + "]}}}");
  EXPECT_THAT(std::string(ParseAll({kPurposes, entry}).status().message()),
              HasSubstr("1.json: /topics/0/read/0: it counts for each of 2 workloads that have a purpose"));
  const std::string one = R"({"purposes": ["marketing"], "workloads": [
      {"workload": {"unit": "ads.service"}, "purpose": "marketing"}]})";
  EXPECT_TRUE(ParseAll({one, entry}).ok());
}

TEST(PurposeTest, PoliciesTogetherStayWithinTheirBounds) {
  std::string many;
  for (size_t i = 0; i < kMostPurposes; ++i) many += (i == 0 ? "\"p" : ",\"p") + std::to_string(i) + "\"";
  const std::string purposes = R"({"purposes": [)" + many + "]}";
  EXPECT_TRUE(ParseAll({purposes, purposes}).ok()) << "the same ones";
  EXPECT_THAT(std::string(ParseAll({purposes, kPurposes}).status().message()),
              HasSubstr("declare 66 purposes, and may declare 64"));
  // One entry makes as many as there are workloads.
  std::string workloads, texts;
  for (int i = 0; i < 600; ++i) {
    workloads += (i == 0 ? "" : ",") + (R"({"workload": {"unit": "u)" + std::to_string(i)) +
                 R"(.service"}, "purpose": "marketing"})";
    texts += (i == 0 ? "" : ",") + std::to_string(i);
  }
  const std::string units = R"({"purposes": ["marketing"], "workloads": [)" + workloads + "]}";
  EXPECT_TRUE(ParseAll({units, OfUsers(R"({"purpose": true})")}).ok());
  EXPECT_THAT(std::string(ParseAll({units, OfUsers(R"({"purpose": true}, {"purpose": true})")}).status().message()),
              HasSubstr("1.json: /topics/0/read/1: it counts for each of 600 workloads that have a purpose"));
  EXPECT_THAT(
      std::string(ParseAll({units, OfUsers(R"({"purpose": true, "where": {"value": {"pointer": "/n", "oneOf": [)" +
                                           texts + "]}}}")})
                      .status()
                      .message()),
      HasSubstr("1.json: /topics/0/read/0: it counts for each of 600 workloads"));
  const std::string last = R"({"any": true, "where": {"users": ["1"]}})";
  EXPECT_THAT(std::string(ParseAll({units, OfUsers(R"({"purpose": true},)" + Repeated(last, 425))}).status().message()),
              HasSubstr("1.json: /topics/0/read: the entries of one topic may have at most 1024 entries"));
}

std::vector<std::string> AdviceOnEntries(const std::string& read) {
  const auto policy = ParseAll({R"({"purposes": ["marketing"]})", OfUsers(read)});
  EXPECT_TRUE(policy.ok()) << policy.status();
  std::vector<std::string> advice = AdviceOn(**policy);
  std::erase_if(advice, [](const std::string& text) {
    return text.find("no entry asks") != std::string::npos ||
           text.find("every workload may write") != std::string::npos;
  });
  return advice;
}

TEST(AdviceTest, SaysThatAClientIdProtectsFromNobody) {
  const std::string alone = R"({"workload": {"claimed": {"clientId": "billing"}}})";
  EXPECT_THAT(AdviceOnEntries(R"({"workload": {"unit": "a.service"}}, )" + alone),
              ::testing::ElementsAre(HasSubstr("entry 2 of \"read\" asks for nothing but a client id")));
  EXPECT_TRUE(AdviceOnEntries(R"({"workload": {"unit": "a.service", "claimed": {"clientId": "billing"}}})").empty());
  EXPECT_TRUE(AdviceOnEntries(R"({"workload": {"claimed": {"principal": "User:a"}}})").empty());
}

TEST(AdviceTest, NamesEntriesWhoseRecordsAnotherOneGives) {
  constexpr char kSame[] = "changes nothing: entry 1 lets the same workload read these records and perhaps others";
  const auto entry = [](const std::string& where) {
    return R"({"workload": {"namespace": "lab"}, "where": {)" + where + "}}";
  };
  const std::pair<const char*, const char*> within[] = {
      {R"("users": ["1", "2"])", R"("users": ["2"])"},
      {R"("consent": ["marketing"])", R"("consent": "marketing", "newerThan": "1h")"},
      {R"("attribute": {"name": "region", "oneOf": ["eu", "us"]})",
       R"("attribute": [{"name": "tenant", "label": "t"}, {"name": "region", "equals": "eu"}])"},
      {R"("newerThan": "2h")", R"("newerThan": "1h", "header": {"name": "a", "equals": "b"})"},
      {R"("header": {"name": "a", "oneOf": ["b", "c"]})", R"("header": {"name": "a", "oneOf": ["c", "b"]})"},
      {R"("value": {"pointer": "/n", "oneOf": [1, "1"]})", R"("value": {"pointer": "/n", "oneOf": ["1", 1.0]})"},
  };
  for (const auto& [outer, inner] : within) {
    const auto advice = AdviceOnEntries(entry(outer) + "," + entry(inner));
    ASSERT_EQ(advice.size(), 1u) << inner;
    EXPECT_THAT(advice[0], HasSubstr("entry 2 of \"read\" " + std::string(kSame)));
  }
  const std::pair<const char*, const char*> different[] = {
      {R"("users": ["1", "2"])", R"("users": ["2", "3"])"},
      {R"("users": ["1"])", R"("consent": "marketing")"},
      {R"("attribute": {"name": "region", "equals": "eu"})", R"("attribute": {"name": "tenant", "equals": "eu"})"},
      {R"("attribute": {"name": "region", "equals": "eu"})", R"("attribute": {"name": "region", "label": "eu"})"},
      {R"("newerThan": "1h")", R"("users": ["1"])"},
      {R"("header": {"name": "a", "equals": "b"})", R"("header": {"name": "a", "equals": "c"})"},
      {R"("header": {"name": "a", "oneOf": ["b, c"]})", R"("header": {"name": "a", "oneOf": ["b", "c"]})"},
      {R"("header": {"name": "a", "equals": "b"})", R"("header": {"name": "a", "matches": "b"})"},
      {R"("value": {"pointer": "/n", "equals": 1234567})", R"("value": {"pointer": "/n", "equals": 1234568})"},
      {R"("value": {"pointer": "/n", "equals": 7})", R"("value": {"pointer": "/n", "equals": "7"})"},
      {R"("value": {"pointer": "/n", "range": {"min": 0.1}})",
       R"("value": {"pointer": "/n", "range": {"min": 0.10000001}})"},
      {R"("value": {"pointer": "/n", "equals": 7})",
       R"("value": {"pointer": "/n", "framing": "confluent", "equals": 7})"},
  };
  for (const auto& [outer, inner] : different) {
    EXPECT_TRUE(AdviceOnEntries(entry(outer) + "," + entry(inner)).empty()) << inner;
  }
  EXPECT_TRUE(AdviceOnEntries(R"({"workload": {"unit": "a.service"}, "where": {"users": ["1"]}},
                                 {"workload": {"unit": "b.service"}, "where": {"users": ["1"]}})")
                  .empty());
}

// Who gets the sealed records could give them other headers and times, in a copy of the topic.
TEST(AdviceTest, NamesEntriesThatSealedRecordsGetAround) {
  const auto advice = [](const std::string& where, const std::string& onDenied) {
    const auto policy = ParseAll({OfUsers(R"({"any": true, "where": )" + where + "}", R"(, "onDenied": )" + onDenied)});
    EXPECT_TRUE(policy.ok()) << policy.status();
    return AdviceOn(**policy);
  };
  const std::string header = R"("header": {"name": "region", "equals": "eu"})";
  EXPECT_THAT(advice("{" + header + "}", R"("sealed")"),
              ::testing::ElementsAre(HasSubstr("entry 1 of \"read\" goes by headers or times alone")));
  EXPECT_EQ(advice(R"({"newerThan": "1h"})", R"("sealed")").size(), 1u);
  EXPECT_TRUE(advice("{" + header + "}", R"("mask")").empty());
  EXPECT_TRUE(advice("{" + header + R"(, "users": ["38"]})", R"("sealed")").empty());
  EXPECT_TRUE(advice("{" + header + R"(, "value": {"pointer": "/a", "equals": 1}})", R"("sealed")").empty());
}

TEST(AdviceTest, NamesExpressionsThatEveryWriterCanMakeSlow) {
  const auto advice = [](const std::string& where, const std::string& more = "") {
    const auto policy =
        ParseAll({OfUsers(R"({"workload": {"unit": "b.service"}}, {"any": true, "where": )" + where + "}", more)});
    EXPECT_TRUE(policy.ok()) << policy.status();
    return AdviceOn(**policy);
  };
  for (const char* const slow :
       {R"({"header": {"name": "h", "matches": "a+"}})", R"({"value": {"pointer": "/a", "matches": "a+"}})"}) {
    EXPECT_THAT(advice(slow),
                ::testing::ElementsAre(HasSubstr("entry 2 of \"read\" has \"matches\", and every workload may write")));
    EXPECT_TRUE(advice(slow, R"(, "write": [{"workload": {"unit": "a.service"}}])").empty());
  }
  EXPECT_TRUE(advice(R"({"header": {"name": "h", "equals": "a"}})").empty());
}

TEST(AdviceTest, NamesEntriesForWorkloadsThatAnotherOneLetsReadEverything) {
  constexpr char kAll[] = "changes nothing: entry 1 lets the same workload read every record";
  const std::string unit = R"({"workload": {"unit": "a.service"}})";
  for (const std::string& outer : {std::string(R"({"any": true})"), unit}) {
    const auto advice = AdviceOnEntries(outer + "," + unit);
    ASSERT_EQ(advice.size(), 1u) << outer;
    EXPECT_THAT(advice[0], HasSubstr("entry 2 of \"read\" " + std::string(kAll)));
  }
  EXPECT_TRUE(AdviceOnEntries(unit + R"(, {"workload": {"unit": "b.service"}})").empty());
  EXPECT_EQ(AdviceOnEntries(unit + R"(, {"any": true})").size(), 1u) << "the first one, of which the second says more";
}

// A policy that is loaded again must not keep a core for long.
TEST(AdviceTest, ComparesABoundedNumberOfEntries) {
  const auto adviceOn = [](size_t topics) {
    const std::string read = Repeated(R"({"workload": {"unit": "a.service"}, "where": {"users": ["1"]}})", 2) + "," +
                             Repeated(R"({"workload": {"unit": "b.service"}, "where": {"newerThan": "1h"}})", 1022);
    std::string list;
    for (size_t i = 0; i < topics; ++i) {
      list += (i == 0 ? "" : ",") + (R"({"name": "t)" + std::to_string(i)) +
              R"(", "seal": {"scope": "user", "user": {"key": true}}, "read": [)" + read + "]}";
    }
    const auto policy = ParseAll({R"({"topics": [)" + list + "]}"});
    EXPECT_TRUE(policy.ok()) << policy.status();
    return AdviceOn(**policy);
  };
  const std::vector<std::string> within = adviceOn(1);
  ASSERT_EQ(within.size(), 1022u);
  EXPECT_THAT(within[0], HasSubstr("entry 2 of \"read\" changes nothing"));
  const std::vector<std::string> beyond = adviceOn(5);
  ASSERT_EQ(beyond.size(), 4 * 1022u + 1);
  EXPECT_THAT(beyond.back(), HasSubstr("too many entries to compare"));
}

TEST(AdviceTest, SaysNumbersAndTextsSuchThatTheyDiffer) {
  const auto said = [](const std::string& test) {
    const auto policy = ParseAll({OfUsers(R"({"any": true, "where": {"value": {"pointer": "/n", )" + test + "}}}")});
    EXPECT_TRUE(policy.ok()) << policy.status();
    return TextOf(*(*policy)->Find("t")->read.at(0).where);
  };
  EXPECT_EQ(said(R"("equals": 1234567)"), "/n of the value is 1234567");
  EXPECT_EQ(said(R"("oneOf": [0.1, "7", "b, c", "d"])"), R"(/n of the value is one of "7", "b, c", d, 0.1)");
  EXPECT_EQ(said(R"("range": {"min": -0.25, "max": 9007199254740991})"),
            "/n of the value is from -0.25 to 9007199254740991");
}

TEST(AdviceTest, NamesPurposesThatNoEntryAsksFor) {
  const auto policy = ParseAll({kPurposes, OfUsers(R"({"any": true, "where": {"consent": "marketing"}})")});
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(AdviceOn(**policy), std::vector<std::string>({"no entry asks for a consent for the purpose \"research\""}));
}

}  // namespace
}  // namespace kveil::policy
