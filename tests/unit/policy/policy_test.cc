// Which entry a topic gets, what its fields come to, and who may read it.
#include "policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "config/kek_config.h"
#include "policy/name_memo.h"
#include "policy/policy_advice.h"
#include "policy/user_list.h"

namespace kveil::policy {
namespace {

TEST(KekRuleTest, NamesTheKeyOfATopic) {
  const auto key = [](const char* name) { return KekKeyOf({"p", name}, "main", "orders"); };
  EXPECT_EQ(key("kafka-${topic}"), "kafka-orders");
  EXPECT_EQ(key("${cluster}/${topic}"), "main/orders");
  EXPECT_EQ(key("one"), "one");
  // A client may name a topic as it likes.
  for (const char* topic : {"${cluster}", "a/cryptoKeyVersions/1", "\x1b[2J", "", "..", "a b"}) {
    EXPECT_EQ(KekKeyOf({"p", "${topic}-${cluster}"}, "main", topic), "") << topic;
  }
  EXPECT_EQ(KekKeyOf({"p", "one"}, "main", "a/b"), "one");
}

using Providers = std::vector<config::KekProviderConfig>;

TEST(KekRuleTest, ProvidersThatTheAgentLacksAreNamed) {
  const auto policy = Policy::Parse({{{"a.json", R"({"topics": [{"name": "t", "seal": {"scope": "topic",
      "kek": {"provider": "paymnts", "key": "k"}}}, {"name": "u", "seal": {"scope": "topic"}}]})"}}});
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_TRUE(CheckKekProviders(**policy, Providers{{"other", {}}, {"paymnts", {}}}).ok());
  const absl::Status lacking = CheckKekProviders(**policy, Providers{{"payments", {}}});
  EXPECT_EQ(lacking.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(lacking.message(),
            "a.json: seal.kek of the entry \"t\": this agent has no provider \"paymnts\" in keys.keks, did you mean "
            "\"payments\"?");
}

TEST(KekRuleTest, NamesThatNoKeyOfTheProviderCanHaveAreRefused) {
  const auto check = [](const std::string& selector, const std::string& key, const config::ProviderConfig& provider) {
    const auto policy = Policy::Parse({{{"a.json", R"({"topics": [{)" + selector + R"(, "seal": {"scope": "topic",
        "kek": {"provider": "p", "key": ")" + key + R"("}}}]})"}}});
    EXPECT_TRUE(policy.ok()) << policy.status();
    return CheckKekProviders(**policy, Providers{{"p", provider}});
  };
  config::ProviderConfig vault, azure, google;
  vault.vault.emplace();
  azure.azure.emplace();
  google.gcp.emplace();
  const std::string ring = "projects/p/locations/eu/keyRings/r/cryptoKeys/${topic}";
  EXPECT_TRUE(check(R"("prefix": "payments.")", "kafka-${topic}", vault).ok());
  EXPECT_EQ(check(R"("prefix": "payments.")", "kafka-${topic}", azure).message(),
            "a.json: seal.kek of the entry \"payments.\": no key of the provider \"p\" can have a name such as "
            "\"kafka-payments.x\"");
  EXPECT_TRUE(check(R"("prefix": "payments-")", "kafka-${topic}", azure).ok());
  EXPECT_TRUE(check(R"("pattern": "p.*")", ring, google).ok());
  EXPECT_FALSE(check(R"("name": "a.b")", ring, google).ok());
  EXPECT_FALSE(check(R"("name": "ab")", "kafka/${topic}", vault).ok());
}

using ::testing::HasSubstr;

std::shared_ptr<const Policy> Make(const std::string& topics) {
  const std::pair<std::string, std::string> file("p.json", R"({"topics": [)" + topics + "]}");
  absl::StatusOr<std::shared_ptr<const Policy>> policy = Policy::Parse({file});
  EXPECT_TRUE(policy.ok()) << policy.status();
  return policy.ok() ? *policy : nullptr;
}

std::string SelectorOf(const Policy& policy, std::string_view topic) {
  const TopicPolicy* found = policy.Find(topic);
  return found == nullptr ? "" : found->selector;
}

identity::Workload InCgroup(const std::string& path) { return identity::Workload{.cgroupPath = path}; }

TEST(PolicyTest, TheMostSpecificEntryWins) {
  const auto policy = Make(R"({"pattern": "orders.*", "read": []}, {"pattern": ".*-eu", "read": []},
      {"prefix": "orders-", "read": []}, {"prefix": "orders-us", "read": []}, {"name": "orders-us-1", "read": []})");
  EXPECT_EQ(SelectorOf(*policy, "orders-us-1"), "orders-us-1");
  EXPECT_EQ(SelectorOf(*policy, "orders-us-2"), "orders-us");
  EXPECT_EQ(SelectorOf(*policy, "orders-us"), "orders-us");
  EXPECT_EQ(SelectorOf(*policy, "orders-u"), "orders-");
  EXPECT_EQ(SelectorOf(*policy, "orders"), "orders.*");
  EXPECT_EQ(SelectorOf(*policy, "clicks-eu"), ".*-eu");
  EXPECT_EQ(SelectorOf(*policy, "orders2-eu"), "orders.*") << "of two patterns the first";
  EXPECT_EQ(SelectorOf(*policy, "clicks"), "");
  EXPECT_EQ(policy->Find(""), nullptr);
}

TEST(PolicyTest, APatternIsTheWholeName) {
  const auto policy = Make(R"({"pattern": "a|b+", "read": []})");
  EXPECT_NE(policy->Find("a"), nullptr);
  EXPECT_NE(policy->Find("bbb"), nullptr);
  EXPECT_EQ(policy->Find("ab"), nullptr);
  EXPECT_EQ(policy->Find("xa"), nullptr);
}

TEST(PolicyTest, InternalTopicsAreFoundByNameOnly) {
  const auto policy =
      Make(R"({"pattern": ".*", "read": []}, {"prefix": "_", "read": []}, {"name": "__mine", "read": []})");
  EXPECT_EQ(policy->Find("__consumer_offsets"), nullptr);
  EXPECT_EQ(policy->Find("__orders-dlq"), nullptr);
  EXPECT_EQ(SelectorOf(*policy, "__mine"), "__mine");
  EXPECT_EQ(SelectorOf(*policy, "_one"), "_");
}

TEST(PolicyTest, PatternsThatRe2RefusesAreErrors) {
  const std::pair<std::string, std::string> file("p.json", R"({"topics": [{"pattern": "a(", "read": []}]})");
  EXPECT_THAT(std::string(Policy::Parse({file}).status().message()),
              HasSubstr("p.json: /topics/0/pattern: expected an RE2 pattern (missing ): a()"));
}

TEST(PolicyTest, TheSameSelectorTwiceNamesBothPlaces) {
  const std::pair<std::string, std::string> files[] = {
      {"a.json", R"({"topics": [{"prefix": "t", "read": []}, {"name": "t", "read": []}]})"},
      {"b.json", R"({"topics": [{"name": "t", "read": []}]})"}};
  EXPECT_EQ(Policy::Parse(files).status().message(),
            "b.json: /topics/0: the name \"t\" is in a.json: /topics/1 already");
}

TEST(PolicyTest, UnselectedTopicsPassUnlessSomethingIsSaid) {
  const auto load = [](const std::string& text) {
    const std::pair<std::string, std::string> file("p.json", text);
    auto policy = Policy::Parse({file});
    EXPECT_TRUE(policy.ok()) << policy.status();
    return *std::move(policy);
  };
  const auto pass = load(R"({"topics": [{"name": "t", "read": []}]})");
  EXPECT_EQ(pass->unselected(), Unselected::kPass);
  EXPECT_EQ(pass->Find("other"), nullptr);
  EXPECT_FALSE(pass->RefusesUnselected("other"));

  const auto refuse = load(R"({"unselected": "refuse", "topics": [{"prefix": "t", "read": []}]})");
  EXPECT_EQ(refuse->unselected(), Unselected::kRefuse);
  EXPECT_EQ(refuse->Find("other"), nullptr);
  EXPECT_TRUE(refuse->RefusesUnselected("other"));
  EXPECT_TRUE(refuse->RefusesUnselected("__orders-dlq")) << "Kafka reserves no such names";
  EXPECT_TRUE(refuse->RefusesUnselected("__consumer_offsets-dlq"));
  for (const char* topic : {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}) {
    EXPECT_FALSE(refuse->RefusesUnselected(topic)) << topic;
  }

  const auto seal = load(R"({"unselected": {"seal": {"scope": "topic"}, "read": [{"any": true}]},
                             "topics": [{"prefix": "t", "read": []}]})");
  EXPECT_EQ(seal->unselected(), Unselected::kSeal);
  EXPECT_EQ(seal->Find("t1")->selector, "t");
  ASSERT_NE(seal->Find("other"), nullptr);
  EXPECT_EQ(seal->Find("other")->kind, SelectorKind::kUnselected);
  EXPECT_EQ(seal->Find("other")->seal->scope, SealScope::kTopic);
  ASSERT_NE(seal->Find("__orders-dlq"), nullptr);
  EXPECT_EQ(seal->Find("__orders-dlq")->kind, SelectorKind::kUnselected);
  EXPECT_EQ(seal->Find("__consumer_offsets"), nullptr);
  EXPECT_FALSE(seal->RefusesUnselected("other"));
}

TEST(PolicyTest, UnselectedTopicsAreSpokenOfOnce) {
  const std::pair<std::string, std::string> files[] = {{"a.json", R"({"unselected": "pass"})"},
                                                       {"b.json", R"({"unselected": "refuse"})"}};
  EXPECT_EQ(Policy::Parse(files).status().message(),
            "b.json: /unselected: \"unselected\" is in a.json: /unselected already");
}

TEST(PolicyTest, AKeyspaceHasOneAnswerToErasures) {
  const std::string seal = R"("seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"}, "read": [])";
  const std::pair<std::string, std::string> files[] = {
      {"a.json", R"({"topics": [{"name": "t", )" + seal + R"(, "afterErase": "newKey"}]})"},
      {"b.json",
       R"({"topics": [{"name": "u", )" + seal + R"(, "afterErase": "newKey"}, {"name": "v", )" + seal + "}]}"}};
  EXPECT_EQ(Policy::Parse(files).status().message(),
            "b.json: /topics/1/afterErase: a.json: /topics/0 has the same keyspace \"people\" and another one");
  EXPECT_TRUE(Policy::Parse({files, 1}).value()->Find("t")->seal->readmits);
}

TEST(PolicyTest, EveryFieldArrives) {
  const auto policy = Make(R"({"name": "t", "plaintext": "drop", "origin": "o",
      "seal": {"scope": "user", "user": {"key": "/id"}, "compress": "never"},
      "read": [{"any": true}, {"workload": {"unit": "u.service"}}, {"workload": {"cgroup": "/c"}}]})");
  const TopicPolicy& topic = *policy->Find("t");
  EXPECT_EQ(topic.plaintext, PlaintextRule::kDrop);
  EXPECT_EQ(topic.origin, "o");
  EXPECT_EQ(topic.file, "p.json");
  ASSERT_TRUE(topic.seal.has_value());
  EXPECT_EQ(topic.seal->scope, SealScope::kUser);
  EXPECT_EQ(topic.seal->user.from, UserSource::From::kKey);
  EXPECT_EQ(topic.seal->user.pointers.at(0).text(), "/id");
  EXPECT_EQ(topic.seal->keyspace, "t") << "the selector by default";
  EXPECT_EQ(topic.seal->compress, CompressValues::kNever);
  ASSERT_EQ(topic.read.size(), 3u);
  EXPECT_EQ(topic.read[0].kind, ReadRule::Kind::kAny);
  EXPECT_EQ(topic.read[1].text, "u.service");
  EXPECT_EQ(topic.read[2].text, "/c");
}

TEST(PolicyTest, UsersAreFoundInValueKeyAndHeader) {
  const auto policy = Make(R"(
      {"name": "v", "seal": {"scope": "user", "user": {"value": "/a/b"}, "keyspace": "people"}},
      {"name": "k", "seal": {"scope": "user", "user": {"key": true}}},
      {"name": "h", "seal": {"scope": "user", "user": {"header": "who"}}},
      {"name": "c", "seal": {"scope": "cluster"}}, {"name": "r", "read": []})");
  EXPECT_EQ(policy->Find("v")->seal->user.from, UserSource::From::kValue);
  EXPECT_EQ(policy->Find("v")->seal->user.pointers.at(0).text(), "/a/b");
  EXPECT_EQ(policy->Find("v")->seal->keyspace, "people");
  EXPECT_EQ(policy->Find("v")->seal->compress, CompressValues::kAuto);
  EXPECT_EQ(policy->Find("k")->seal->user.from, UserSource::From::kKey);
  EXPECT_TRUE(policy->Find("k")->seal->user.pointers.empty());
  EXPECT_EQ(policy->Find("h")->seal->user.from, UserSource::From::kHeader);
  EXPECT_EQ(policy->Find("h")->seal->user.header, "who");
  EXPECT_EQ(policy->Find("c")->seal->scope, SealScope::kCluster);
  EXPECT_EQ(policy->Find("c")->seal->keyspace, "");
  EXPECT_FALSE(policy->Find("r")->seal.has_value());
}

TEST(MayReadTest, NobodyReadsWithoutARule) {
  const auto policy = Make(R"({"name": "none", "seal": {"scope": "topic"}}, {"name": "empty", "read": []},
                              {"name": "any", "read": [{"any": true}]})");
  const identity::Workload workload{.cgroupPath = "/system.slice/a.service", .unit = "a.service"};
  EXPECT_FALSE(MayRead(*policy->Find("none"), workload));
  EXPECT_FALSE(MayRead(*policy->Find("empty"), workload));
  EXPECT_TRUE(MayRead(*policy->Find("any"), identity::Workload{}));
}

TEST(MayReadTest, UnitsAreComparedWhole) {
  const auto policy = Make(R"({"name": "t", "read": [{"workload": {"unit": "a.service"}}]})");
  EXPECT_TRUE(MayRead(*policy->Find("t"), identity::Workload{.unit = "a.service"}));
  EXPECT_FALSE(MayRead(*policy->Find("t"), identity::Workload{.unit = "aa.service"}));
  EXPECT_FALSE(MayRead(*policy->Find("t"), identity::Workload{.unit = "a.service2"}));
  EXPECT_FALSE(MayRead(*policy->Find("t"), identity::Workload{.cgroupPath = "/x/a.service"}));
  EXPECT_FALSE(MayRead(*policy->Find("t"), identity::Workload{}));
}

TEST(MayReadTest, ACgroupHoldsThoseBelowItAndNotItsNamesakes) {
  const auto policy = Make(R"({"name": "t", "read": [{"workload": {"cgroup": "/a/b"}}]})");
  EXPECT_TRUE(MayRead(*policy->Find("t"), InCgroup("/a/b")));
  EXPECT_TRUE(MayRead(*policy->Find("t"), InCgroup("/a/b/c")));
  EXPECT_FALSE(MayRead(*policy->Find("t"), InCgroup("/a/bc")));
  EXPECT_FALSE(MayRead(*policy->Find("t"), InCgroup("/a")));
  EXPECT_FALSE(MayRead(*policy->Find("t"), InCgroup("/x/a/b")));
  EXPECT_FALSE(MayRead(*policy->Find("t"), InCgroup("")));
}

identity::Workload InPod(std::string nameSpace, std::string serviceAccount,
                         std::vector<std::pair<std::string, std::string>> labels = {}) {
  return {.podUid = "u1",
          .pod = std::make_shared<const identity::Pod>(
              identity::Pod{"u1", std::move(nameSpace), "web-1", std::move(serviceAccount), std::move(labels)})};
}

TEST(MayReadTest, AServiceAccountIsComparedWithItsNamespace) {
  const auto policy = Make(R"({"name": "t", "read": [{"workload": {"serviceAccount": "shop/web"}}]})");
  const TopicPolicy& topic = *policy->Find("t");
  EXPECT_TRUE(MayRead(topic, InPod("shop", "web")));
  EXPECT_FALSE(MayRead(topic, InPod("shop", "web2")));
  EXPECT_FALSE(MayRead(topic, InPod("bank", "web")));
  EXPECT_FALSE(MayRead(topic, InPod("shop", "")));
  EXPECT_FALSE(MayRead(topic, identity::Workload{.podUid = "u1"})) << "a pod that is not known is no one";
  EXPECT_FALSE(MayRead(topic, identity::Workload{.unit = "web.service"}));
  EXPECT_TRUE(NamesPods(topic));
  EXPECT_FALSE(NamesPods(*Make(R"({"name": "t", "read": [{"any": true}]})")->Find("t")));
}

TEST(MayReadTest, ClaimsMustAllFitBesideTheWorkload) {
  const auto policy = Make(R"({"name": "alone", "read": [{"workload": {"claimed": {"principal": "User:anna"}}}]},
      {"name": "both", "read": [{"workload": {"unit": "a.service", "claimed": {"principal": "User:anna", "clientId": "x"}}}]},
      {"name": "certificate", "read": [{"workload": {"claimed": {"certificate": "CN=a\\,OU=b"}}}]})");
  const identity::Workload unit{.unit = "a.service"};
  const TopicPolicy& alone = *policy->Find("alone");
  EXPECT_TRUE(MayRead(alone, {}, {.principal = "anna"}));
  EXPECT_TRUE(MayRead(alone, unit, {.principal = "anna", .certificate = "CN=x", .clientId = "y"}));
  EXPECT_FALSE(MayRead(alone, {}, {.principal = "bert"}));
  EXPECT_FALSE(MayRead(alone, {}, {.principal = "User:anna"})) << "a name that looks like the principal of another";
  EXPECT_FALSE(MayRead(alone, {}, {.certificate = "anna", .clientId = "anna"}));
  EXPECT_FALSE(MayRead(alone, unit)) << "nothing is known yet";
  const TopicPolicy& both = *policy->Find("both");
  EXPECT_TRUE(MayRead(both, unit, {.principal = "anna", .clientId = "x"}));
  EXPECT_FALSE(MayRead(both, {}, {.principal = "anna", .clientId = "x"}));
  EXPECT_FALSE(MayRead(both, unit, {.principal = "anna"}));
  EXPECT_FALSE(MayRead(both, unit, {.clientId = "x"}));
  const TopicPolicy& certificate = *policy->Find("certificate");
  EXPECT_TRUE(MayRead(certificate, {}, {.certificate = "CN=a\\,OU=b"}));
  EXPECT_FALSE(MayRead(certificate, {}, {.certificate = "CN=a,OU=b"})) << "another subject";
}

TEST(MayReadTest, ANamespaceAndAllLabelsMustFit) {
  const auto policy = Make(R"({"name": "all", "read": [{"workload": {"namespace": "shop"}}]},
      {"name": "some", "read": [{"workload": {"namespace": "shop", "labels": {"b": "2", "a": "1"}}}]})");
  EXPECT_TRUE(MayRead(*policy->Find("all"), InPod("shop", "web")));
  EXPECT_FALSE(MayRead(*policy->Find("all"), InPod("bank", "web")));
  EXPECT_FALSE(MayRead(*policy->Find("all"), identity::Workload{.podUid = "u1"}));
  const TopicPolicy& some = *policy->Find("some");
  EXPECT_TRUE(MayRead(some, InPod("shop", "web", {{"a", "1"}, {"b", "2"}, {"c", "3"}})));
  EXPECT_FALSE(MayRead(some, InPod("shop", "web", {{"a", "1"}})));
  EXPECT_FALSE(MayRead(some, InPod("shop", "web", {{"a", "1"}, {"b", "3"}})));
  EXPECT_FALSE(MayRead(some, InPod("bank", "web", {{"a", "1"}, {"b", "2"}})));
}

TEST(MayReadTest, AUidIsOneMoreCondition) {
  const auto policy = Make(R"({"name": "t", "read": [{"workload": {"unit": "a.service", "uid": 33}}]})");
  EXPECT_TRUE(MayRead(*policy->Find("t"), identity::Workload{.unit = "a.service", .uid = 33}));
  EXPECT_FALSE(MayRead(*policy->Find("t"), identity::Workload{.unit = "a.service", .uid = 34}));
  EXPECT_FALSE(MayRead(*policy->Find("t"), identity::Workload{.unit = "b.service", .uid = 33}));
}

class PolicyFolderTest : public ::testing::Test {
 protected:
  PolicyFolderTest() { std::filesystem::create_directories(folder_); }
  ~PolicyFolderTest() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }
  std::string folder_ = ::testing::TempDir() + "policy-folder-" + std::to_string(::getpid());
};

TEST_F(PolicyFolderTest, JsonFilesAreReadAndOthersLeftAlone) {
  Write("b.json", R"({"topics": [{"name": "b", "read": []}]})");
  Write("a.json", R"({"topics": [{"name": "a", "read": []}]})");
  Write("a.json~", "not json");
  Write("README", "not json");
  Write(".hidden.json", "not json");
  const auto policy = Policy::Load({folder_});
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ((*policy)->fileCount(), 2u);
  EXPECT_EQ((*policy)->size(), 2u);
  EXPECT_NE((*policy)->Find("b"), nullptr);
  EXPECT_EQ((*policy)->Find("b")->file, folder_ + "/b.json");
}

class UserListTest : public PolicyFolderTest {
 protected:
  UserListTest() { UseEncoding("text"); }
  void UseEncoding(const std::string& as) {
    Write("a.json", R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true, "as": ")" + as +
                        R"("}}, "read": [{"any": true, "where": {"users": {"file": "users.txt"}}}]}]})");
  }
  static const std::vector<std::string>& UsersOf(const Policy& policy) {
    return *policy.Find("t")->read.at(0).where->users;
  }
  // Numbers from `first` on, a line each.
  static std::string Lines(size_t count, size_t first = 0) {
    std::string lines;
    for (size_t i = first; i < first + count; ++i) lines += std::to_string(i) + "\n";
    return lines;
  }
  // What is read of this list; the error, if it is refused.
  std::string Read(const std::string& list) {
    Write("users.txt", list);
    const auto policy = Policy::Load({folder_});
    if (!policy.ok()) return std::string(policy.status().message());
    std::string users;
    for (const std::string& user : UsersOf(**policy)) users += user + ";";
    return users;
  }
  // Whether a record of this user may be read.
  bool Reads(const std::string& user) {
    const auto policy = Policy::Load({folder_});
    EXPECT_TRUE(policy.ok()) << policy.status();
    const TopicPolicy& topic = *(*policy)->Find("t");
    EntrySet entries;
    EXPECT_EQ(ReadableBy(topic, {}, entries), Readable::kSome);
    topic.rules->NarrowByUser(topic.rules->NumberOf(user), entries);
    return topic.rules->AnswerOf(entries) == RecordRules::Answer::kMayRead;
  }
};

TEST_F(UserListTest, HasAnIdPerLine) {
  EXPECT_EQ(Read("38\n1071\n39\n"), "1071;38;39;");
  EXPECT_EQ(Read("38\r\n39\r\n"), "38;39;");
  EXPECT_EQ(Read("38\n38\n"), "38;") << "one that is there twice";
  EXPECT_EQ(Read("J\xC3\xBCrgen M.\n# 7\n"), "# 7;J\xC3\xBCrgen M.;");
  EXPECT_TRUE(Reads("# 7"));
  EXPECT_FALSE(Reads("7"));
}

TEST_F(UserListTest, IsSpelledAsTheTopicDoes) {
  UseEncoding("uuid");
  EXPECT_EQ(Read("6BA7B810-9DAD-11D1-80B4-00C04FD430C8\n6ba7b810-9dad-11d1-80b4-00c04fd430c8\n"),
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8;");
  EXPECT_THAT(Read("38\n"), HasSubstr("/users.txt: line 1: the user's id is not"));
}

// Of a download that failed, or a writer in the middle, the readers would skip records and not get them later.
TEST_F(UserListTest, IsRefusedWhereItLooksCutOff) {
  EXPECT_THAT(Read(""), HasSubstr("/users.txt: lists nobody"));
  for (const char* empty : {"\n", "\r\n", "\n38\n"})
    EXPECT_THAT(Read(empty), HasSubstr("line 1: it is empty")) << empty;
  EXPECT_THAT(Read("38\n\n"), HasSubstr("/users.txt: line 2: it is empty"));
  EXPECT_THAT(Read("38\n39"), HasSubstr("/users.txt: line 2: it does not end with a line feed"));
  EXPECT_THAT(Read("38\n39\r"), HasSubstr("/users.txt: line 2: it does not end with a line feed"));
}

TEST_F(UserListTest, IsRefusedAsAWhole) {
  EXPECT_THAT(Read("38\n 39\n"), HasSubstr("a.json: /topics/0/read/0/where/users/file: "));
  EXPECT_THAT(Read("38\n 39\n"), HasSubstr("/users.txt: line 2: there is a space before or behind the id"));
  EXPECT_THAT(Read("38 \n"), HasSubstr("line 1: there is a space"));
  EXPECT_THAT(Read("\xEF\xBB\xBF"
                   "38\n"),
              HasSubstr("line 1: it begins with a byte order mark"));
  EXPECT_THAT(Read("38\n39\n3\x01\n"), HasSubstr("line 3: the user's id"));
  EXPECT_THAT(Read("38\n\xFF\n"), HasSubstr("line 2: "));
  EXPECT_THAT(Read(std::string(2000, 'x') + "\n"), HasSubstr("line 1: the user's id"));
  const std::string many = Lines(kMostListedUsers);
  EXPECT_EQ(Read(many + many).size(), many.size()) << "each twice";
  EXPECT_THAT(Read(many + "x\n"), HasSubstr("line 100001: a file may list 100000 users"));
  std::filesystem::remove(folder_ + "/users.txt");
  EXPECT_THAT(std::string(Policy::Load({folder_}).status().message()), HasSubstr("/users.txt: cannot read"));
}

TEST_F(UserListTest, OfAllEntriesHasABound) {
  Write("users.txt", Lines(kMostListedUsers));
  Write("a.json", R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [
      {"any": true, "where": {"users": {"file": "users.txt"}}}, {"any": true, "where": {"users": ["x"]}}]}]})");
  EXPECT_THAT(std::string(Policy::Load({folder_}).status().message()),
              HasSubstr("at most 100000 ids in \"users\", files included, and these have 100001"));
}

// Whoever reads the lists of a hundred topics reads each once, and keeps each once.
TEST_F(UserListTest, CountsOnceHoweverManyEntriesNameIt) {
  Write("users.txt", Lines(60'000));
  const std::string entry = R"({"any": true, "where": {"users": {"file": "users.txt"}}})";
  const std::string purpose = R"({"purpose": true, "where": {"users": {"file": "users.txt"}}})";
  Write("a.json", R"({"purposes": ["ads"], "workloads": [
      {"workload": {"unit": "a.service"}, "purpose": "ads"}, {"workload": {"unit": "b.service"}, "purpose": "ads"}],
      "topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [)" +
                      entry + "," + entry + "," + purpose + "]}]}");
  const auto policy = Policy::Load({folder_});
  ASSERT_TRUE(policy.ok()) << policy.status();
  const std::vector<ReadRule>& read = (*policy)->Find("t")->read;
  ASSERT_EQ(read.size(), 4u);
  for (const ReadRule& rule : read) EXPECT_EQ(rule.where->users, read[0].where->users);
  EXPECT_EQ((*policy)->Find("t")->rules->users().size(), 60'000u);
}

// A worker keeps the keys of all of them, topic by topic.
TEST_F(UserListTest, OfAllTopicsHasABound) {
  Write("users.txt", Lines(kMostListedUsers));
  const auto load = [this](int topics) {
    std::string list;
    for (int i = 0; i < topics; ++i) {
      list += (i == 0 ? "" : ",") + (R"({"name": "t)" + std::to_string(i)) +
              R"(", "seal": {"scope": "user", "user": {"key": true}}, "read": [
              {"any": true, "where": {"users": {"file": "users.txt"}}}]})";
    }
    Write("a.json", R"({"topics": [)" + list + "]}");
    return Policy::Load({folder_}).status();
  };
  EXPECT_THAT(std::string(load(11).message()),
              HasSubstr("/topics/10/read: the topics so far name 1100000 users, and all topics may name 1000000"));
}

TEST_F(UserListTest, AreOnlyReadUpToABound) {
  Write("users.txt", "38\n");
  Write("others.txt", "39\n");
  const auto read = [this](UserLists& lists, const std::string& name, formats::IdEncoding as) {
    return lists.Read(folder_ + "/" + name, as);
  };
  PolicyFiles files;
  UserLists lists(files, /*mostBytes=*/7);
  const auto first = read(lists, "users.txt", formats::IdEncoding::kText);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*read(lists, "users.txt", formats::IdEncoding::kText), *first) << "read once";
  const auto second = read(lists, "users.txt", formats::IdEncoding::kInt64);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE(*second, *first);
  EXPECT_THAT(std::string(read(lists, "others.txt", formats::IdEncoding::kText).status().message()),
              HasSubstr("/others.txt: the lists of users together may have 7 bytes"));
}

TEST_F(UserListTest, SharesTheEntriesOfUsersThatTheSameOnesName) {
  Write("users.txt", "1\n2\n3\n");
  Write("a.json", R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [
      {"any": true, "where": {"users": {"file": "users.txt"}}},
      {"any": true, "where": {"users": ["3", "4"]}}]}]})");
  const auto policy = Policy::Load({folder_});
  ASSERT_TRUE(policy.ok()) << policy.status();
  const RecordRules& rules = *(*policy)->Find("t")->rules;
  const auto namedBy = [&](const std::string& user) {
    std::string entries;
    for (size_t entry = 0; entry < 2; ++entry) {
      EntrySet one;
      one.Add(entry);
      if (rules.NameUser(one, *rules.NumberOf(user))) entries += std::to_string(entry);
    }
    return entries;
  };
  EXPECT_EQ(namedBy("1") + " " + namedBy("2") + " " + namedBy("3") + " " + namedBy("4"), "0 0 01 1");
}

// Patterns are tried one after the other, on names of any workload's making.
TEST(PolicyTest, RemembersWhatPatternsFound) {
  const auto policy = Policy::Parse({{{"p.json", R"({"topics": [{"pattern": "a-.*", "read": []},
                                                                {"pattern": ".*-b", "read": []},
                                                                {"name": "a-name", "read": []}]})"}}});
  ASSERT_TRUE(policy.ok()) << policy.status();
  const auto find = [&](const std::string& topic, bool& isSearched) {
    std::chrono::nanoseconds searched{};
    const TopicPolicy* const found = (*policy)->Find(topic, &searched);
    isSearched = searched.count() > 0;
    return found == nullptr ? "" : found->selector;
  };
  bool isSearched = true;
  EXPECT_EQ(find("a-name", isSearched), "a-name");
  EXPECT_FALSE(isSearched);
  for (const bool isFirst : {true, false}) {
    for (const auto& [topic, selector] : {std::pair("a-x", "a-.*"), {"x-b", ".*-b"}, {"a-b", "a-.*"}, {"x", ""}}) {
      EXPECT_EQ(find(topic, isSearched), selector) << topic;
      EXPECT_EQ(isSearched, isFirst) << topic;
    }
  }
  // No more than it has room for, nor names that no topic has.
  const std::string longest = "a-" + std::string(NameMemo::kLongest - 1, 'x');
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(find(longest, isSearched), "a-.*");
    EXPECT_TRUE(isSearched);
  }
  for (size_t i = 0; i < NameMemo::kMost; ++i) find(std::to_string(i) + "-b", isSearched);
  EXPECT_EQ(find("a-x", isSearched), "a-.*");
  EXPECT_TRUE(isSearched);
}

TEST_F(PolicyFolderTest, EmptyAndMissingFoldersAreErrors) {
  EXPECT_EQ(Policy::Load({folder_}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Policy::Load({folder_ + "/none"}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(PolicyFolderTest, AFolderInTheNameOfAFileIsAnError) {
  std::filesystem::create_directory(folder_ + "/x.json");
  EXPECT_THAT(std::string(Policy::Load({folder_}).status().message()), HasSubstr("x.json: expected a regular file"));
}

}  // namespace
}  // namespace kveil::policy
