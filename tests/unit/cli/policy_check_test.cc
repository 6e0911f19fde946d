// `kveil policy check`: what good policies mean, what is wrong with the others.
#include <gtest/gtest.h>

#include "command_fixture.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

constexpr char kGood[] = R"({"topics": [
    {"name": "clicks", "seal": {"scope": "user", "user": {"value": "/userid"}}, "read": [{"any": true}]},
    {"prefix": "orders.", "seal": {"scope": "topic"},
     "read": [{"workload": {"unit": "desk.service"}}, {"workload": {"cgroup": "/shop.slice"}}]},
    {"pattern": "t[0-9]", "seal": {"scope": "cluster"}},
    {"name": "keys", "seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"}, "read": []},
    {"name": "headers", "seal": {"scope": "user", "user": {"header": "who"}}, "read": []},
    {"name": "mirror", "read": [{"any": true}]}]})";
constexpr char kBad[] = R"({"topics": [{"name": "clicks", "raed": []}]})";

class PolicyCheckTest : public CommandTest {};

TEST_F(PolicyCheckTest, SaysWhatAGoodFileMeans) {
  const std::string file = Write("good.json", kGood);
  const CommandResult result = Run({"policy", "check", file});
  EXPECT_EQ(result.exitStatus, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(
      result.out,
      file +
          ": good\n"
          "  name clicks: sealed with the user's key (user at /userid of the value, keyspace clicks), read by every "
          "workload\n"
          "  prefix orders.: sealed with the topic's key, read by unit desk.service, cgroup /shop.slice\n"
          "  pattern t[0-9]: sealed with the cluster's key, read by nobody\n"
          "  name keys: sealed with the user's key (user is the record key, keyspace people), read by nobody\n"
          "  name headers: sealed with the user's key (user in the header who, keyspace headers), read by nobody\n"
          "  name mirror: not sealed here, read by every workload\n"
          "topics that no entry selects pass in clear text\n");
}

TEST_F(PolicyCheckTest, SaysWhatBecomesOfUnselectedTopics) {
  const CommandResult refused = Run({"policy", "check", Write("refuse.json", R"({"unselected": "refuse"})")});
  EXPECT_EQ(refused.exitStatus, 0);
  EXPECT_TRUE(refused.out.ends_with("refuse.json: good\n  topics that no entry selects: not written to\n"))
      << refused.out;
  const CommandResult sealed =
      Run({"policy", "check", Write("seal.json", R"({"unselected": {"seal": {"scope": "topic"}}})")});
  EXPECT_TRUE(sealed.out.ends_with(
      "seal.json: good\n  topics that no entry selects: sealed with the topic's key, read by nobody\n"))
      << sealed.out;
}

TEST_F(PolicyCheckTest, SaysHowAnIdIsWrittenAndWhereElseItMayBe) {
  const CommandResult result = Run({"policy", "check", Write("ids.json", R"({"unselected": "refuse", "topics": [
      {"name": "a", "seal": {"scope": "user", "user": {"value": ["/after/id", "/before/id"], "framing": "confluent"}}},
      {"name": "b", "seal": {"scope": "user", "user": {"key": true, "as": "int64"}}}]})")});
  EXPECT_EQ(result.exitStatus, 0);
  EXPECT_NE(result.out.find("(user at /after/id, else /before/id of the value, behind a schema's id, keyspace a)"),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("(user is the record key, as int64, keyspace b)"), std::string::npos) << result.out;
}

// "orders-*" selects "orders-" and "orders--", and not "orders-eu".
TEST_F(PolicyCheckTest, WarnsOfAGlobThatIsNoExpression) {
  const auto check = [this](const std::string& pattern) {
    return Run(
        {"policy", "check", Write("glob.json", R"({"topics": [{"pattern": ")" + pattern + R"(", "read": []}]})")});
  };
  for (const char* glob : {"orders-*", "orders*", "a_*", "x*-events"}) {
    const CommandResult result = check(glob);
    EXPECT_EQ(result.exitStatus, 0) << glob;
    EXPECT_NE(result.err.find("warning: "), std::string::npos) << glob;
    EXPECT_NE(result.err.find(glob), std::string::npos) << glob;
  }
  EXPECT_NE(check("orders-*").err.find("\"orders-.*\""), std::string::npos);
  for (const char* expression : {"orders-.*", "orders-[a-z]*", "(a|b)*", "t[0-9]+", "a\\\\d*", "(a{2})*"}) {
    EXPECT_EQ(check(expression).err, "") << expression;
  }
}

TEST_F(PolicyCheckTest, SaysTheSameInJson) {
  const std::string file = Write("good.json", kGood);
  const CommandResult result = Run({"policy", "check", "--json", file});
  EXPECT_EQ(result.exitStatus, 0);
  const Json told = Json::parse(result.out);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told.at(0).at("file"), file);
  ASSERT_EQ(told.at(0).at("topics").size(), 6u);
  EXPECT_EQ(told.at(0).at("topics").at(1).at("prefix"), "orders.");
  EXPECT_EQ(told.at(0).at("topics").at(2).at("read"), "read by nobody");
}

TEST_F(PolicyCheckTest, SaysWhereABadFileIsWrong) {
  const std::string bad = Write("bad.json", kBad);
  ExpectFailure(Run({"policy", "check", bad}), 1, "/topics/0/raed: unknown key \"raed\", did you mean \"read\"?");
  const CommandResult json = Run({"policy", "check", "--json", bad});
  EXPECT_EQ(json.exitStatus, 1);
  EXPECT_EQ(Json::parse(json.out), Json::array());
  ExpectFailure(Run({"policy", "check", Write("no.json", "{\n\"topics\": \n[}")}), 1, "no.json");
  ExpectFailure(Run({"policy", "check", folder_ + "/missing.json"}), 1, "missing.json");
}

TEST_F(PolicyCheckTest, LooksAtEveryFileAlsoBehindABadOne) {
  const CommandResult result =
      Run({"policy", "check", Write("a.json", kBad), Write("b.json", kGood), Write("c.json", R"({"topics": []})")});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.out.find("b.json: good"), std::string::npos);
  EXPECT_NE(result.err.find("a.json"), std::string::npos);
  EXPECT_NE(result.err.find("c.json"), std::string::npos);
}

TEST_F(PolicyCheckTest, ReadsAFolderAsTheAgentWould) {
  Write("policies/one.json", R"({"topics": [{"name": "one", "read": []}]})");
  Write("policies/two.json", R"({"topics": [{"name": "two", "read": []}]})");
  Write("policies/notes.txt", "not a policy");
  const CommandResult result = Run({"policy", "check", folder_ + "/policies"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_NE(result.out.find("one.json: good"), std::string::npos);
  EXPECT_NE(result.out.find("two.json: good"), std::string::npos);
  std::filesystem::create_directory(folder_ + "/empty");
  EXPECT_EQ(Run({"policy", "check", folder_ + "/empty"}).exitStatus, 1);
}

TEST_F(PolicyCheckTest, FindsWhatIsWrongWithGoodFilesTogether) {
  const CommandResult result = Run({"policy", "check", Write("a.json", R"({"topics": [{"name": "t", "read": []}]})"),
                                    Write("b.json", R"({"topics": [{"name": "t", "read": []}]})")});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.err.find("kveil policy check: "), std::string::npos) << result.err;
}

// One file may declare the purposes that others ask for.
TEST_F(PolicyCheckTest, ReadsPurposesOfAllFilesTogether) {
  const std::string topics = Write("topics.json", R"({"unselected": "refuse", "topics": [{"name": "t",
      "seal": {"scope": "user", "user": {"key": true}}, "read": [{"purpose": true},
      {"workload": {"unit": "b.service"}, "where": {"consent": "research"}}]}]})");
  const std::string purposes = Write("purposes.json", R"({"purposes": ["marketing", "research"],
      "workloads": [{"workload": {"unit": "a.service"}, "purpose": "marketing"}]})");
  const CommandResult together = Run({"policy", "check", "--strict", topics, purposes});
  EXPECT_EQ(together.exitStatus, 0) << together.err;
  EXPECT_NE(together.out.find("read by workloads with a purpose, of users who consent to it, unit b.service (users who "
                              "consent to research)"),
            std::string::npos)
      << together.out;
  EXPECT_NE(together.out.find("  purposes: marketing, research\n"), std::string::npos) << together.out;
  const CommandResult alone = Run({"policy", "check", topics});
  EXPECT_EQ(alone.exitStatus, 1);
  EXPECT_NE(alone.err.find("unknown purpose \"research\", which no file lists"), std::string::npos) << alone.err;
  const std::string misspelled = Write("more.json", R"({"purposes": ["maketing"]})");
  const CommandResult advice = Run({"policy", "check", "--strict", topics, purposes, misspelled});
  EXPECT_EQ(advice.exitStatus, 1);
  EXPECT_NE(advice.err.find("no entry asks for a consent for the purpose \"maketing\""), std::string::npos)
      << advice.err;
}

TEST_F(PolicyCheckTest, ChecksThePoliciesOfTheConfigurationByDefault) {
  Write("policies/one.json", kBad);
  const std::string config = Write(
      "agent.json", StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},
                                     "policies": ")",
                           folder_, R"(/policies"})"));
  ExpectFailure(Run({"policy", "check", "--config", config}), 1, "one.json: /topics/0/raed");
}

}  // namespace
}  // namespace kveil::cli
