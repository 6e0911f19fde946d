// What all policies together may hold.
#include "policy/totals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/text.h"
#include "policy/policy.h"

namespace kveil::policy::totals_test {
namespace {

using ::testing::HasSubstr;

template <typename Make>
std::string Listed(size_t count, const Make& make) {
  std::string list;
  for (size_t i = 0; i < count; ++i) StrAppend(&list, i == 0 ? "" : ",", make(i));
  return list;
}

// What is wrong with the topics, or "".
std::string Wrong(const std::string& topics, const std::string& more = "") {
  return std::string(
      Policy::Parse({{{"p.json", StrCat("{", more, R"("topics": [)", topics, "]}")}}}).status().message());
}

std::string WrongPatterns(size_t count, const std::string& pattern) {
  return Wrong(Listed(count, [&](size_t i) { return StrCat(R"({"pattern": ")", pattern, i, R"(", "read": []})"); }));
}

TEST(TotalsTest, PatternsOfTopicsAreBounded) {
  EXPECT_EQ(WrongPatterns(kMostSelectorPatterns, "team-"), "");
  EXPECT_THAT(WrongPatterns(kMostSelectorPatterns + 1, "team-"),
              HasSubstr("p.json: /topics/1000: the policies so far have 1001 entries with a \"pattern\", and all "
                        "together may have 1000"));
}

// A short pattern may be a long program.
TEST(TotalsTest, ProgramsOfPatternsAreBounded) {
  EXPECT_EQ(WrongPatterns(190, "a{1000}"), "");
  EXPECT_EQ(WrongPatterns(75, "[a-zA-Z0-9._-]{1,249}-"), "") << "as people write them";
  EXPECT_THAT(WrongPatterns(200, "a{1000}"),
              HasSubstr("steps in the programs of their \"pattern\", and all together may have 200000 (\"+\" has far "
                        "fewer than \"{1,249}\")"));
  EXPECT_THAT(WrongPatterns(1, "((a{100}){100}){10}"), HasSubstr("/topics/0/pattern: expected an RE2 pattern"));
  EXPECT_THAT(WrongPatterns(1, std::string(1000, 'a')), HasSubstr("expected a pattern of at most 1000 bytes"));
}

TEST(TotalsTest, EntriesAreBounded) {
  const auto topics = [](size_t count) {
    return Wrong(Listed(count, [](size_t i) { return StrCat(R"({"name":"t)", i, R"(","read":[]})"); }));
  };
  EXPECT_EQ(topics(kMostEntriesOfAll), "");
  EXPECT_THAT(topics(kMostEntriesOfAll + 1),
              HasSubstr("the policies so far have 100001 entries of \"topics\", and all together may have 100000"));
}

TEST(TotalsTest, ReadersOfATopicAreBoundedWhateverTheyAsk) {
  const auto readers = [](const std::string& key, size_t count) {
    return Wrong(StrCat(R"({"name": "t", "seal": {"scope": "topic"}, ")", key, R"(": [)",
                        Listed(count, [](size_t) { return R"({"any": true})"; }), "]}"));
  };
  for (const char* key : {"read", "write"}) {
    EXPECT_EQ(readers(key, kMostReaders), "");
    EXPECT_EQ(readers(key, kMostReaders + 1),
              StrCat("p.json: /topics/0/", key, ": a topic may have at most 1024 entries here, and this one has 1025"));
  }
}

TEST(TotalsTest, ReadersOfAllTopicsAreBoundedAsTheyCount) {
  const auto wrong = [](size_t topics, size_t workloads) {
    const std::string list = Listed(
        workloads, [](size_t i) { return StrCat(R"({"workload": {"unit": "u)", i, R"(.service"}, "purpose": "a"})"); });
    const std::string topic = R"(, "seal": {"scope": "user", "user": {"key": true}}, "read": [{"purpose": true}]})";
    return Wrong(Listed(topics, [&](size_t i) { return StrCat(R"({"name": "t)", i, "\"", topic); }),
                 StrCat(R"("purposes": ["a"], "workloads": [)", list, "], "));
  };
  EXPECT_EQ(wrong(250, 1000), "");
  EXPECT_THAT(wrong(251, 1000),
              HasSubstr("p.json: /topics/250: the policies so far have 251000 entries of \"read\" and "
                        "\"write\", and all together may have 250000"));
}

TEST(TotalsTest, ConditionsOfAllTopicsAreBounded) {
  const auto wrong = [](size_t topics, const std::string& header) {
    return Wrong(Listed(topics, [&](size_t i) {
      return StrCat(R"({"name": "t)", i, R"(", "read": [)",
                    Listed(10, [&](size_t) { return StrCat(R"({"any": true, "where": {"header": )", header, "}}"); }),
                    "]}");
    }));
  };
  const std::string matches = R"({"name": "h", "matches": "a"})";
  EXPECT_EQ(wrong(kMostPatternsOfAll / 10, matches), "");
  EXPECT_THAT(wrong(kMostPatternsOfAll / 10 + 1, matches), HasSubstr("1010 patterns in \"matches\""));
  const std::string texts = StrCat(R"({"name": "h", "oneOf": [)", Listed(1000, [](size_t) { return "\"a\""; }), "]}");
  EXPECT_EQ(wrong(kMostTextsOfAll / 10'000, texts), "");
  EXPECT_THAT(wrong(kMostTextsOfAll / 10'000 + 1, texts), HasSubstr("1010000 texts and numbers"));
}

TEST(TotalsTest, FilesTogetherAreBounded) {
  Totals totals;
  EXPECT_TRUE(totals.AddFile("a.json", kMostPolicyBytes - 1).ok());
  EXPECT_TRUE(totals.AddFile("b.json", 1).ok());
  EXPECT_EQ(totals.AddFile("c.json", 1).message(),
            "c.json: the policies so far have 67108865 bytes, and all together may have 67108864");
  // Beside one topic that says nothing else.
  const std::string good = R"({"topics": [{"name": "t", "read": []}]})";
  const std::string large = std::string(kMostPolicyBytes, ' ');
  EXPECT_THAT(std::string(Policy::Parse({{{"a.json", good + large}}}).status().message()),
              HasSubstr("a.json: the policies so far have "));
}

TEST(TotalsTest, LabelsOfAnEntryAreBounded) {
  const auto wrong = [](size_t labels, size_t length, size_t keyLength = 1) {
    return Wrong(StrCat(R"({"name": "t", "read": [{"workload": {"namespace": "n", "labels": {)",
                        Listed(labels,
                               [&](size_t i) {
                                 return StrCat("\"", std::string(keyLength, 'k'), i, R"(": ")",
                                               std::string(length, 'v'), "\"");
                               }),
                        "}}}]}"));
  };
  EXPECT_EQ(wrong(32, 63), "");
  EXPECT_THAT(wrong(33, 63), HasSubstr("/labels: expected at least one label and at most 32"));
  EXPECT_THAT(wrong(1, 64), HasSubstr("/labels/k0: expected a shorter label"));
  EXPECT_THAT(wrong(1, 1, 317), HasSubstr("no label of Kubernetes has such a long key"));
}

}  // namespace
}  // namespace kveil::policy::totals_test
