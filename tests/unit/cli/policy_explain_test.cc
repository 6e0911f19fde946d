// `kveil policy explain` and `kveil policy test`: who may read what, and why.
#include <gtest/gtest.h>

#include "command_fixture.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

constexpr char kPolicy[] = R"({"topics": [
    {"name": "tickets", "seal": {"scope": "user", "user": {"value": "/customer"}, "keyspace": "people"}, "read": [
        {"workload": {"unit": "desk.service"}},
        {"workload": {"unit": "accounts.service"}, "where": {"users": ["38", "39"]}},
        {"workload": {"namespace": "shop", "labels": {"app": "x"}},
         "where": {"header": {"name": "region", "equals": "eu"}, "newerThan": "24h"}},
        {"workload": {"cgroup": "/high.slice", "uid": 33},
         "where": {"value": {"pointer": "/priority", "range": {"min": 8}}}}]},
    {"name": "orders", "seal": {"scope": "user", "user": {"key": true, "as": "uuid"}}, "read": [
        {"any": true, "where": {"users": ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]}}]}]})";

class PolicyExplainTest : public CommandTest {
 protected:
  PolicyExplainTest() : policy_(Write("policy.json", kPolicy)) {}

  CommandResult Explain(const std::string& workload, std::vector<std::string> more = {},
                        const std::string& topic = "tickets") {
    std::vector<std::string> arguments = {"policy", "explain", "--workload", workload, "--topic", topic};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.push_back(policy_);
    return Run(arguments);
  }
  CommandResult ExplainRecord(const std::string& workload, const std::string& record) {
    return Explain(workload, {"--record", Write("record.json", record)});
  }
  static void ExpectSaid(const CommandResult& result, const std::string& said) {
    EXPECT_EQ(result.exitStatus, 0) << result.err;
    EXPECT_EQ(result.out, said + "\n");
  }

  const std::string policy_;
};

TEST_F(PolicyExplainTest, SaysWhatAWorkloadReadsOfATopic) {
  ExpectSaid(
      Explain("unit=desk.service"),
      "everything: entry 1 of \"read\" (unit desk.service) fits the workload and has no \"where\": it reads every "
      "record");
  ExpectSaid(Explain("unit=accounts.service"),
             "some: it reads some records: entry 2 of \"read\" (unit accounts.service) those of users 38, 39");
  ExpectSaid(Explain("unit=intern.service"),
             "nothing: no entry of \"read\" fits the workload: it gets TOPIC_AUTHORIZATION_FAILED");
  ExpectSaid(Explain("unit=intern.service", {}, "unheard-of"),
             "everything: no entry selects the topic, so it is not protected: every workload reads it");
}

TEST_F(PolicyExplainTest, SaysWhichEntryDecidesOnARecord) {
  ExpectSaid(Explain("unit=accounts.service", {"--user", "38"}),
             "read: entry 2 of \"read\" (unit accounts.service) lets it be read: users 38, 39");
  ExpectSaid(
      Explain("unit=accounts.service", {"--user", "40"}),
      "denied: entry 2 of \"read\" (unit accounts.service) does not let it be read: the record is of another user");
  // Of clear text that names a user, the agent takes no word.
  ExpectSaid(
      ExplainRecord("unit=accounts.service", R"({"value": {"customer": 39}})"),
      "read: entry 2 of \"read\" (unit accounts.service) lets it be read: users 38, 39, if the record is sealed: "
      "clear text is no user's");
  ExpectSaid(
      ExplainRecord("unit=accounts.service", R"({"value": {"who": 39}})"),
      "denied: entry 2 of \"read\" (unit accounts.service) does not let it be read: it is not known whose record it "
      "is");
}

TEST_F(PolicyExplainTest, NamesTheKekOfATopic) {
  const std::string policy = Write("kek.json", R"({"topics": [{"prefix": "pay.", "read": [{"any": true}],
      "seal": {"scope": "topic", "kek": {"provider": "payments", "key": "k-${cluster}-${topic}"}}}]})");
  const CommandResult explained =
      Run({"policy", "explain", "--workload", "unit=a.service", "--topic", "pay.in", policy});
  EXPECT_NE(explained.out.find("; its records are sealed under the KEK payments/k-${cluster}-pay.in\n"),
            std::string::npos)
      << explained.out;
  const CommandResult checked = Run({"policy", "check", policy});
  EXPECT_NE(checked.out.find("sealed with the topic's key under the KEK payments/k-${cluster}-${topic}"),
            std::string::npos)
      << checked.out;
}

TEST_F(PolicyExplainTest, NamesTheKekOfUsers) {
  const std::string policy = Write("kek.json", R"({"topics": [{"name": "t", "read": [{"any": true}],
      "seal": {"scope": "user", "user": {"key": true}, "kek": {"provider": "payments", "key": "k"}}}]})");
  const CommandResult explained = Run({"policy", "explain", "--workload", "unit=a.service", "--topic", "t", policy});
  EXPECT_NE(explained.out.find("; its records are sealed under the KEK payments/k\n"), std::string::npos)
      << explained.out;
  const CommandResult checked = Run({"policy", "check", policy});
  EXPECT_NE(checked.out.find("keyspace t) under the KEK payments/k"), std::string::npos) << checked.out;
}

TEST_F(PolicyExplainTest, AsksWhatTheClientClaims) {
  const std::string policy = Write("claims.json", R"({"topics": [{"name": "t", "read": [
      {"workload": {"unit": "a.service", "claimed": {"principal": "User:anna"}}},
      {"workload": {"claimed": {"certificate": "CN=orders,OU=prod"}}}]}]})");
  const auto explain = [&](const std::string& workload) {
    const std::string out = Run({"policy", "explain", "--workload", workload, "--topic", "t", policy}).out;
    return out.substr(0, out.find(" fits"));
  };
  EXPECT_EQ(explain("unit=a.service,claimed.principal=User:anna"),
            "everything: entry 1 of \"read\" (unit a.service that claims principal \"User:anna\")");
  EXPECT_EQ(explain("unit=a.service,claimed.principal=User:bert"), "nothing: no entry of \"read\"");
  EXPECT_EQ(explain(R"({"claimed": {"certificate": "CN=orders,OU=prod"}})"),
            "everything: entry 2 of \"read\" (every workload that claims certificate \"CN=orders,OU=prod\")");
  const CommandResult spaced = Run({"policy", "explain", "--workload",
                                    R"({"claimed": {"certificate": "CN=orders, OU=prod"}})", "--topic", "t", policy});
  EXPECT_EQ(spaced.exitStatus, 1) << "no policy takes it either";
  EXPECT_NE(spaced.err.find("a certificate's subject without spaces behind commas"), std::string::npos) << spaced.err;
  const std::string table = Write("claims.test.json", R"({"policies": ")" + policy + R"(", "expectations": [
      {"workload": {"unit": "a.service", "claimed": {"principal": "User:anna"}}, "topic": "t", "expect": "everything"},
      {"workload": {"unit": "a.service", "claimed": {"clientId": "anna"}}, "topic": "t", "expect": "nothing"}]})");
  EXPECT_EQ(Run({"policy", "test", table}).exitStatus, 0);
}

TEST_F(PolicyExplainTest, SaysWhichConditionDoesNotHold) {
  const std::string pod = "namespace=shop,label.app=x";
  const std::string entry = "denied: entry 3 of \"read\" (namespace shop with app=x) does not let it be read: ";
  ExpectSaid(
      ExplainRecord(pod, R"({"headers": {"region": "eu"}, "age": "1h"})"),
      "read: entry 3 of \"read\" (namespace shop with app=x) lets it be read: header region is eu and newer than 24h");
  ExpectSaid(ExplainRecord(pod, R"({"headers": {"region": "eu"}})"), entry + "the record has no time");
  ExpectSaid(ExplainRecord(pod, R"({"headers": {"region": "eu"}, "age": "24h"})"),
             entry + "the record is not newer than 24h");
  ExpectSaid(ExplainRecord(pod, R"({"age": "1h"})"), entry + "the header region is not there, or is there twice");
  ExpectSaid(ExplainRecord(pod, R"({"headers": {"region": "us"}, "age": "1h"})"),
             entry + "the header region is another");
  const std::string slice = "cgroup=/high.slice/a.service,uid=33";
  EXPECT_TRUE(ExplainRecord(slice, R"({"value": {"priority": 8}})").out.starts_with("read: "));
  const auto why = [&](const std::string& record) {
    const std::string out = ExplainRecord(slice, record).out;
    return out.substr(out.rfind(": ") + 2);
  };
  EXPECT_EQ(why(R"({"value": {"priority": 7}})"), "/priority of the value is another number\n");
  EXPECT_EQ(why(R"({"value": {"priority": "8"}})"), "/priority of the value is another text\n");
  EXPECT_EQ(why(R"({"value": {"priority": null}})"),
            "there is neither a text nor a number at /priority of the value\n");
  EXPECT_EQ(why(R"({"value": {"Priority": 9, "priority": 9}})"),
            "readers may differ on what is at /priority of the value\n");
  EXPECT_EQ(why(R"({"key": "k"})"), "the record has no value\n");
}

TEST_F(PolicyExplainTest, SpellsUsersAsTheTopicDoes) {
  ExpectSaid(Explain("unit=a.service", {"--user", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}, "orders"),
             "read: entry 1 of \"read\" (every workload) lets it be read: user 6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  ExpectFailure(Explain("unit=a.service", {"--user", "38"}, "orders"), 1, "policy explain: the user's id is not");
}

TEST_F(PolicyExplainTest, PrintsJson) {
  const Json record = Json::parse(Explain("unit=accounts.service", {"--user", "38", "--json"}).out);
  EXPECT_EQ(record["record"], "read");
  EXPECT_EQ(record["entry"], 2);
  EXPECT_EQ(record["topic"], "tickets");
  EXPECT_EQ(record["protected"], true);
  EXPECT_FALSE(record["why"].get<std::string>().empty());
  const Json topic = Json::parse(Explain("unit=none.service", {"--json"}).out);
  EXPECT_EQ(topic["reads"], "nothing");
  EXPECT_FALSE(topic.contains("entry"));
}

// What headers and times keep from a reader is denied first, so that the reader learns nothing of the erasure.
TEST_F(PolicyExplainTest, KnowsThatAUserWasErased) {
  ExpectSaid(Explain("unit=desk.service", {"--user", "38", "--erased"}),
             "erased: entry 1 of \"read\" (unit desk.service) fits the workload and has no \"where\": it reads every "
             "record, but its user was erased; such records are left out, or kept without their value for clients that "
             "need it");
  ExpectSaid(Explain("unit=accounts.service", {"--user", "38", "--erased"}),
             "denied: entry 2 of \"read\" (unit accounts.service) does not let it be read: its user was erased, so "
             "nobody knows whose it was");
  const std::string pod = "namespace=shop,label.app=x";
  EXPECT_TRUE(ExplainRecord(pod, R"({"headers": {"region": "eu"}, "age": "1h", "value": {}, "erased": true})")
                  .out.starts_with("erased: entry 3"));
  ExpectSaid(ExplainRecord(pod, R"({"headers": {"region": "us"}, "age": "1h", "value": {}, "erased": true})"),
             "denied: entry 3 of \"read\" (namespace shop with app=x) does not let it be read: the header region is "
             "another");
  ExpectFailure(ExplainRecord(pod, R"({"erased": false})"), 1, "/erased: expected true");
  ExpectFailure(Explain(pod, {"--erased"}), 1, "add --user or --record");
}

TEST_F(PolicyExplainTest, RefusesWhatItDoesNotUnderstand) {
  ExpectFailure(Explain("unti=a.service"), 1, "--workload: /unti: unknown key \"unti\", did you mean \"unit\"?");
  ExpectFailure(Explain("uid=many"), 1, "--workload: /uid: expected a whole number");
  ExpectFailure(ExplainRecord("unit=a.service", R"({"valeu": 1})"), 1, "/valeu: unknown key");
  ExpectFailure(Explain("unit=a.service", {"--record", "/nowhere"}), 1, "/nowhere");
}

constexpr char kConsents[] = R"({"purposes": ["marketing", "research"],
    "workloads": [{"workload": {"unit": "ads.service"}, "purpose": "marketing"}],
    "topics": [{"name": "clicks", "seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"}, "read": [
        {"workload": {"unit": "desk.service"}}, {"purpose": true},
        {"workload": {"namespace": "shop"}, "where": {"attribute": {"name": "tenant", "label": "tenant"}}}]}]})";

class ConsentExplainTest : public PolicyExplainTest {
 protected:
  CommandResult Explain(const std::string& workload, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"policy", "explain", "--workload", workload, "--topic", "clicks"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.push_back(Write("consents.json", kConsents));
    return Run(arguments);
  }
};

TEST_F(ConsentExplainTest, KnowsConsentsThatAreDescribed) {
  const std::string entry = "entry 2 of \"read\" (unit ads.service) ";
  ExpectSaid(Explain("unit=ads.service", {}),
             "some: it reads some records: " + entry + "those of users who consent to marketing");
  ExpectSaid(Explain("unit=ads.service", {"--user", "38", "--consent", "research", "--consent", "marketing"}),
             "read: " + entry + "lets it be read: users who consent to marketing");
  ExpectSaid(Explain("unit=ads.service", {"--user", "38", "--consent", "research"}),
             "denied: " + entry + "does not let it be read: the user does not consent to marketing");
  const std::string record = Write("record.json", R"({"key": "38", "consents": ["marketing"]})");
  ExpectSaid(
      Explain("unit=ads.service", {"--record", record}),
      "denied: " + entry + "does not let it be read: a tombstone has no key that says what is known of its user");
}

TEST_F(ConsentExplainTest, KnowsAttributesThatAreDescribed) {
  const std::string entry = "entry 3 of \"read\" (namespace shop) ";
  const auto explain = [&](const std::string& attribute) {
    return Explain("namespace=shop,label.tenant=a", {"--user", "38", "--attribute", attribute});
  };
  ExpectSaid(explain("tenant=a"),
             "read: " + entry + "lets it be read: users whose tenant is the reader's label tenant");
  ExpectSaid(explain("tenant=b"),
             "denied: " + entry + "does not let it be read: the user's tenant is not the workload's label tenant");
  ExpectSaid(explain("region=a"), "denied: " + entry + "does not let it be read: the user has no tenant");
}

TEST_F(ConsentExplainTest, RefusesWhatNobodyCouldConsentTo) {
  ExpectFailure(Explain("unit=ads.service", {"--user", "38", "--consent", "marketng"}), 1,
                "unknown purpose \"marketng\", did you mean \"marketing\"?");
  ExpectFailure(Explain("unit=ads.service", {"--consent", "marketing"}), 1, "add --user or --record");
  ExpectFailure(Explain("unit=ads.service", {"--user", "38", "--attribute", "tenant"}), 1, "expected NAME=VALUE");
}

TEST_F(PolicyExplainTest, SaysWhatAWorkloadMayWrite) {
  const std::string policy = Write("write.json", R"({"topics": [{"name": "t", "seal": {"scope": "topic"}, "write": [
      {"workload": {"unit": "a.service"}},
      {"workload": {"unit": "b.service"}, "where": {"header": {"name": "region", "equals": "eu"}}}]}]})");
  const auto explain = [&](const std::string& unit, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"policy", "explain", "--write", "--workload", "unit=" + unit, "--topic", "t"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.push_back(policy);
    return Run(arguments);
  };
  ExpectSaid(explain("a.service"),
             "everything: entry 1 of \"write\" (unit a.service) fits the workload and has no "
             "\"where\": it writes every record");
  ExpectSaid(explain("c.service"),
             "nothing: no entry of \"write\" fits the workload: it gets TOPIC_AUTHORIZATION_FAILED");
  const std::string record = Write("record.json", R"({"headers": {"region": "eu"}, "value": {}})");
  ExpectSaid(explain("b.service", {"--record", record}),
             "written: entry 2 of \"write\" (unit b.service) lets it be written: header region is eu");
}

class PolicyDiffCommandTest : public CommandTest {};

TEST_F(PolicyDiffCommandTest, ExitsAsDiffDoes) {
  const std::string before = Write("old.json", R"({"topics": [{"name": "t", "read": [{"any": true}]}]})");
  const std::string after = Write("new.json", R"({"topics": [{"name": "t", "read": []}]})");
  const CommandResult same = Run({"policy", "diff", before, before});
  EXPECT_EQ(same.exitStatus, 0);
  EXPECT_EQ(same.out, "");
  const CommandResult different = Run({"policy", "diff", before, after});
  EXPECT_EQ(different.exitStatus, 1);
  EXPECT_EQ(different.out, "name t: every workload loses every record\n");
  const CommandResult json = Run({"policy", "diff", "--json", before, after});
  EXPECT_EQ(json.exitStatus, 1);
  const Json read = Json::parse(json.out);
  EXPECT_EQ(read["same"], false);
  EXPECT_EQ(read["workloads"][0]["workload"], "every workload");
  EXPECT_EQ(read["workloads"][0]["access"], "read");
  EXPECT_EQ(read["workloads"][0]["loses"], Json({"every record"}));
  EXPECT_EQ(read["topics"], Json::array());
  EXPECT_EQ(Run({"policy", "diff", before, "/nowhere.json"}).exitStatus, 2);
  EXPECT_EQ(Run({"policy", "diff", before}).exitStatus, 2);
}

class PolicyTableTest : public CommandTest {
 protected:
  PolicyTableTest() { Write("policy.json", kPolicy); }
  CommandResult Test(const std::string& expectations, std::vector<std::string> more = {}) {
    const std::string table =
        Write("table.json", R"({"policies": "policy.json", "expectations": [)" + expectations + "]}");
    std::vector<std::string> arguments = {"policy", "test", table};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
};

constexpr char kHolds[] =
    R"({"workload": {"unit": "accounts.service"}, "topic": "tickets", "record": {"user": "38"}, "expect": "read"})";
constexpr char kDiffers[] =
    R"({"workload": {"unit": "accounts.service"}, "topic": "tickets", "record": {"user": "40"}, "expect": "read"})";

TEST_F(PolicyTableTest, PassesWhereAllExpectationsHold) {
  const CommandResult result = Test(StrCat(
      kHolds, R"(,{"workload": {"unit": "accounts.service"}, "topic": "tickets", "expect": "some"})",
      R"(,{"workload": {"unit": "x.service"}, "topic": "tickets", "expect": "nothing"})",
      R"(,{"workload": {"serviceAccount": "shop/x", "labels": {"app": "x"}}, "topic": "tickets", "expect": "some"})"));
  EXPECT_EQ(result.exitStatus, 0) << result.out << result.err;
  EXPECT_TRUE(result.out.ends_with("table.json: 4 of 4 expectations hold\n")) << result.out;
}

TEST_F(PolicyTableTest, KnowsConsentsAndAttributes) {
  Write("policy.json", kConsents);
  const auto expect = [](const std::string& workload, const std::string& record, const std::string& expected) {
    return R"({"workload": )" + workload + R"(, "topic": "clicks", "record": )" + record + R"(, "expect": ")" +
           expected + "\"}";
  };
  constexpr char kAds[] = R"({"unit": "ads.service"})";
  constexpr char kShop[] = R"({"namespace": "shop", "labels": {"tenant": "a"}})";
  const CommandResult result =
      Test(StrCat(expect(kAds, R"({"user": "38", "consents": ["marketing"]})", "read"), ",",
                  expect(kAds, R"({"user": "38", "consents": ["research"]})", "denied"), ",",
                  expect(kShop, R"({"user": "38", "attributes": {"tenant": "a"}})", "read"), ",",
                  expect(kShop, R"({"user": "38", "attributes": {"tenant": "b"}})", "denied")));
  EXPECT_EQ(result.exitStatus, 0) << result.out << result.err;
  ExpectFailure(Test(expect(kAds, R"({"user": "38", "consents": ["marketng"]})", "denied")), 1,
                "/expectations/0/record/consents: unknown purpose \"marketng\", did you mean \"marketing\"?");
}

TEST_F(PolicyTableTest, KnowsErasedUsers) {
  const auto expect = [](const std::string& unit, const std::string& record, const std::string& expected) {
    return R"({"workload": {"unit": ")" + unit + R"("}, "topic": "tickets", "record": )" + record + R"(, "expect": ")" +
           expected + "\"}";
  };
  constexpr char kErased[] = R"({"user": "38", "erased": true})";
  const CommandResult result =
      Test(StrCat(expect("desk.service", kErased, "erased"), ",", expect("accounts.service", kErased, "denied")));
  EXPECT_EQ(result.exitStatus, 0) << result.out << result.err;
  const CommandResult differs = Test(expect("desk.service", kErased, "read"));
  EXPECT_NE(differs.out.find("expected read, found erased"), std::string::npos) << differs.out;
}

TEST_F(PolicyTableTest, NamesExpectationsThatDoNotHold) {
  const CommandResult result = Test(StrCat(kHolds, ",", kDiffers));
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.out.find("table.json: /expectations/1: expected read, found denied: entry 2 of \"read\""),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("1 of 2 expectations hold"), std::string::npos);
  const CommandResult json = Test(StrCat(kHolds, ",", kDiffers), {"--json"});
  EXPECT_EQ(json.exitStatus, 1);
  const Json read = Json::parse(json.out);
  EXPECT_EQ(read["held"], 1);
  EXPECT_EQ(read["differences"][0]["at"], "/expectations/1");
  EXPECT_EQ(read["differences"][0]["found"], "denied");
}

TEST_F(PolicyTableTest, RefusesABadTable) {
  ExpectFailure(Test(""), 1, "/expectations: expected at least one expectation");
  ExpectFailure(Test(R"({"topic": "t", "expect": "some"})"), 1, "expected the key \"workload\"");
  ExpectFailure(Test(R"({"workload": {}, "topic": "t", "expect": "read"})"), 1,
                "expected one of \"everything\", \"some\", \"nothing\", found \"read\"");
  ExpectFailure(Test(R"({"workload": {}, "topic": "t", "record": {}, "expect": "some"})"), 1,
                "expected one of \"read\", \"erased\", \"denied\"");
  ExpectFailure(Test(R"({"workload": {}, "topic": "orders", "record": {"user": "38"}, "expect": "read"})"), 1,
                "/expectations/0/record/user: ");
  ExpectFailure(
      Run({"policy", "test",
           Write("bad.json", R"({"policies": "nowhere.json", "expectations": [)" + std::string(kHolds) + "]}")}),
      1, "nowhere.json");
}

class EntryAdviceTest : public CommandTest {
 protected:
  CommandResult Check(const std::string& read, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {
        "policy", "check",
        Write("read.json", R"({"unselected": "refuse", "topics": [{"name": "t", "read": [)" + read + "]}]}")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
};

TEST_F(EntryAdviceTest, WarnsOfEntriesThatChangeNothing) {
  const std::string where = R"("where": {"newerThan": "1h"}})";
  const std::pair<std::string, std::string> shadowed[] = {
      {R"({"any": true})", R"({"workload": {"unit": "a.service"}, )"},
      {R"({"workload": {"unit": "a.service"}})", R"({"workload": {"unit": "a.service", "uid": 3}, )"},
      {R"({"workload": {"cgroup": "/a"}})", R"({"workload": {"cgroup": "/a/b"}, )"},
      {R"({"workload": {"namespace": "shop"}})", R"({"workload": {"serviceAccount": "shop/x"}, )"},
      {R"({"workload": {"namespace": "shop"}})", R"({"workload": {"namespace": "shop", "labels": {"a": "b"}}, )"},
  };
  for (const auto& [outer, inner] : shadowed) {
    const CommandResult after = Check(outer + "," + inner + where);
    EXPECT_EQ(after.exitStatus, 0);
    EXPECT_NE(
        after.err.find("topic \"t\": entry 2 of \"read\" changes nothing: entry 1 lets the same workload read every "
                       "record"),
        std::string::npos)
        << after.err;
    EXPECT_NE(Check(inner + where + "," + outer).err.find("entry 1 of \"read\" changes nothing"), std::string::npos);
    EXPECT_EQ(Check(outer + "," + inner + where, {"--strict"}).exitStatus, 1);
  }
  const std::pair<std::string, std::string> useful[] = {
      {R"({"workload": {"unit": "a.service"}})", R"({"any": true, )"},
      {R"({"workload": {"unit": "a.service", "uid": 3}})", R"({"workload": {"unit": "a.service"}, )"},
      {R"({"workload": {"cgroup": "/a/b"}})", R"({"workload": {"cgroup": "/a"}, )"},
      {R"({"workload": {"cgroup": "/a"}})", R"({"workload": {"cgroup": "/ab"}, )"},
      {R"({"workload": {"namespace": "shop", "labels": {"a": "b"}}})", R"({"workload": {"namespace": "shop"}, )"},
      {R"({"workload": {"namespace": "shop"}})", R"({"workload": {"serviceAccount": "shop2/x"}, )"},
  };
  for (const auto& [outer, inner] : useful) {
    const CommandResult result = Check(outer + "," + inner + where, {"--strict"});
    EXPECT_EQ(result.exitStatus, 0) << outer << inner;
    EXPECT_EQ(result.err, "") << outer << inner;
  }
}

TEST_F(EntryAdviceTest, WarnsOfAgesThatNoRecordHas) {
  EXPECT_NE(Check(R"({"any": true, "where": {"olderThan": "2h", "newerThan": "2h"}})").err.find("lets nothing be read"),
            std::string::npos);
  EXPECT_EQ(Check(R"({"any": true, "where": {"newerThan": "3h"}})").err, "");
}

// Whoever keeps up never gets a record that was denied when it was new.
TEST_F(EntryAdviceTest, WarnsOfAgesThatAConsumerDoesNotWaitFor) {
  for (const char* const where : {R"({"olderThan": "2h"})", R"({"olderThan": "2h", "newerThan": "3h"})"}) {
    const CommandResult result = Check(StrCat(R"({"any": true, "where": )", where, "}"));
    EXPECT_NE(result.err.find("entry 1 of \"read\" has \"olderThan\""), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("lets nothing be read"), std::string::npos) << result.err;
  }
}

TEST_F(EntryAdviceTest, SaysWhatConditionsMean) {
  const CommandResult result = Check(
      R"({"any": true, "where": {"header": {"name": "h", "oneOf": ["a", "b", "c", "d", "e", "f", "g"]},
          "value": [{"pointer": "/a", "matches": "x+"}, {"pointer": "/b", "range": {"max": 2.5}}], "olderThan": "90s"}},
         {"workload": {"unit": "a.service"}, "where": {"value": {"pointer": "/a", "equals": 7}}})");
  EXPECT_NE(result.out.find("read by every workload (header h is one of a, b, c, d, e and 2 more and /a of the value "
                            "matches x+ and /b of the value is at most 2.5 and older than 90s), unit a.service (/a of "
                            "the value is 7)"),
            std::string::npos)
      << result.out;
}

}  // namespace
}  // namespace kveil::cli
