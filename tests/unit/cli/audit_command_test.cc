// `kveil audit` and `kveil subject`: what they ask the agent, what they print of trails, and what they do not claim.
#include <gtest/gtest.h>

#include "admin_fixture.h"
#include "audit/recorder.h"
#include "audit/trail_files.h"
#include "receipts/store.h"

namespace kveil::cli {
namespace {

class AuditCliTest : public AdminCommandTest {
 protected:
  // A trail in which analytics has read 3 records of the user with the pseudonym ab.., and 2 of nobody who is known.
  std::string MakeTrail(const std::string& name) {
    audit::Tally tally;
    audit::Recorder::Options options;
    options.folder = folder_ + "/" + name;
    options.agent = name;
    options.pseudonymsOf =
        [](absl::Span<const crypto::KeyId> keys) -> absl::StatusOr<std::vector<std::optional<std::string>>> {
      return std::vector<std::optional<std::string>>(keys.size(), "ab12");
    };
    absl::Time now = absl::Now() - absl::Minutes(1);
    options.wallClock = [&now] { return now; };
    options.steadyClock = [&now] { return now - absl::UnixEpoch(); };
    audit::Recorder recorder(std::move(options), {&tally});
    identity::Workload workload;
    workload.share = workload.cgroupPath = "/system.slice/analytics.service";
    workload.unit = "analytics.service";
    workload.uid = 33;
    const crypto::KeyId keys[3] = {};
    tally.Add(workload, {.cluster = "main", .topic = "clicks", .file = "/p/clicks.json", .entry = 2, .isByUser = true},
              {.records = 3, .leftOut = 1}, keys);
    tally.Add(workload, {.cluster = "main", .topic = topic_, .access = audit::Access::kWrite}, {.records = 2});
    now += absl::Minutes(1);
    recorder.Stop();
    return folder_ + "/" + name;
  }
  std::string topic_ = "orders";
  void AnswerWithTrail(const std::string& folder) {
    AnswerWith(StrCat(R"({"folder": ")", folder, R"(", "pseudonyms": [{"keyspace": "people", "pseudonym": "ab12"}]})"));
  }
};

TEST_F(AuditCliTest, SaysWhoReadWhat) {
  AnswerWithTrail(MakeTrail("audit"));
  const CommandResult result = RunWith({"audit", "query"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "audit"})"));
  for (const char* part :
       {"analytics.service as uid 33 read clicks of cluster main: 3 record(s), 1 left out by rules, by entry 2 of "
        "\"read\" in clicks.json",
        "analytics.service as uid 33 wrote orders of cluster main: 2 record(s)\n",
        "NOT KNOWN nothing is known from before"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  EXPECT_EQ(RunWith({"audit", "query", "--topic", "clicks"}).out.find("orders"), std::string::npos);
}

TEST_F(AuditCliTest, SaysWhoReadWhoseRecordsAndWhatItDoesNotKnow) {
  AnswerWithTrail(MakeTrail("audit"));
  const CommandResult result = RunWith({"audit", "query", "--user", "38", "--keyspace", "people", "--json"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "audit", "user": "38", "keyspace": "people"})"));
  const Json answer = Json::parse(result.out).at(0);
  ASSERT_EQ(answer["done"].size(), 1u);
  EXPECT_EQ(answer["done"][0]["records"], 3);
  EXPECT_NE(answer["notKnown"].dump().find("2 records of topic orders were counted, and no policy asked for whom"),
            std::string::npos)
      << answer;
}

TEST_F(AuditCliTest, ReadsSeveralTrailsWithoutAnAgent) {
  const std::string a = MakeTrail("a"), b = MakeTrail("b");
  agent_.reset();
  const CommandResult result = RunWith({"audit", "query", "--trail", a, "--trail", b, "--json"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(Json::parse(result.out).size(), 2u);
  ExpectFailure(RunWith({"audit", "query", "--trail", a, "--user", "38"}), 1,
                "only a running agent can say under which pseudonym a user is counted");
}

TEST_F(AuditCliTest, FindsAChangedTrail) {
  const std::string folder = MakeTrail("audit");
  const CommandResult verified = RunWith({"audit", "verify", "--trail", folder});
  EXPECT_EQ(verified.exitStatus, 0) << verified.err;
  EXPECT_NE(verified.out.find("lines 1 to 5 in order"), std::string::npos) << verified.out;
  const std::string key = RunWith({"audit", "key", "--trail", folder}).out;
  EXPECT_TRUE(key.starts_with("-----BEGIN PUBLIC KEY-----")) << key;
  const std::string other = Write("other.pem", RunWith({"audit", "key", "--trail", MakeTrail("other")}).out);
  EXPECT_EQ(RunWith({"audit", "verify", "--trail", folder, "--key", other}).exitStatus, 1);
  EXPECT_NE(verified.out.find("verified with the folder's own key"), std::string::npos);
  const std::string own = Write("own.pem", key);
  const std::string otherFolder = folder_ + "/other";
  const CommandResult both =
      RunWith({"audit", "verify", "--trail", folder, "--trail", otherFolder, "--key", own, "--key", other});
  EXPECT_EQ(both.exitStatus, 0) << both.err;
  ExpectFailure(RunWith({"audit", "verify", "--trail", folder, "--trail", otherFolder, "--key", own}), 1,
                "there are 1 --key for 2 trails");
  const std::string file = folder + "/" + audit::FilesOf(folder)->front();
  std::string text(std::filesystem::file_size(file), '\0');
  std::ifstream(file).read(text.data(), static_cast<std::streamsize>(text.size()));
  text.replace(text.find("\"records\":3"), 11, "\"records\":1");
  std::ofstream(file) << text;
  AnswerWithTrail(folder);
  const CommandResult wrong = RunWith({"audit", "verify", "--trail", folder});
  EXPECT_EQ(wrong.exitStatus, 1);
  EXPECT_EQ(wrong.err, "kveil audit verify: a trail is not as it was written\n");
  EXPECT_NE(wrong.out.find("WRONG "), std::string::npos) << wrong.out;
  EXPECT_EQ(RunWith({"audit", "query"}).exitStatus, 1);
}

TEST_F(AuditCliTest, PrintsNoNameThatIsALineOrACommandToTheTerminal) {
  topic_ = "evil\n  NOT KNOWN nothing\x1b[2J\x7f";
  AnswerWithTrail(MakeTrail("audit"));
  for (const char* filter : {"--since", "--user"}) {
    const CommandResult result = RunWith({"audit", "query", filter, filter[2] == 's' ? "1h" : "38"});
    EXPECT_EQ(result.exitStatus, 0) << result.err;
    EXPECT_NE(result.out.find("evil\\x0a  NOT KNOWN nothing\\x1b[2J\\x7f"), std::string::npos) << result.out;
    EXPECT_EQ(result.out.find('\x1b'), std::string::npos);
    EXPECT_EQ(result.out.find("\n  NOT KNOWN nothing\\"), std::string::npos);
  }
}

TEST_F(AuditCliTest, RefusesTimesThatAreNone) {
  ExpectFailure(RunWith({"audit", "query", "--since", "yesterday"}), 1, "\"yesterday\" is no time");
  ExpectFailure(RunWith({"audit", "query", "--since", "1h", "--until", "2h"}), 1, "--since is not before --until");
  AnswerWithTrail(MakeTrail("audit"));
  for (const char* time : {"2h", "2026-01-01", "2026-01-01T10:00:00Z"}) {
    EXPECT_EQ(RunWith({"audit", "query", "--since", time}).exitStatus, 0) << time;
  }
  EXPECT_EQ(RunWith({"audit", "query", "--until", "2026-01-01"}).out.find("clicks"), std::string::npos);
}

TEST_F(AuditCliTest, SaysThatTheAgentKeepsNone) {
  AnswerWith("{}");
  ExpectFailure(RunWith({"audit", "query"}), 1, "the agent keeps no audit trail");
}

TEST_F(AuditCliTest, ReportsWhatIsKnownOfAPerson) {
  const std::string trail = MakeTrail("audit");
  Write("agent2.json",
        StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},
                      "admin": {"socket": ")",
               folder_, R"(/admin.sock"}, "keys": {"registry": {"sqlite": ")", folder_, R"(/registry.db"}}})"));
  config_ = folder_ + "/agent2.json";
  const receipts::Store store(folder_ + "/receipts");
  ASSERT_TRUE(store.Prepare().ok());
  receipts::Receipt receipt;
  receipt.time = "2026-01-02T03:04:05Z";
  receipt.reason = "request 7";
  receipt.users = {{{{"people", "cd34"}}, 1}};
  ASSERT_TRUE(store.Append(receipt).ok());
  receipt.users = {{{{"people", "ab12"}}, 1}};
  ASSERT_TRUE(store.Append(receipt).ok());
  Handle([trail](const Json& asked) -> std::string {
    if (asked["command"] == "readUser")
      return R"({"known": [{"keyspace": "people", "consents": [{"purpose": "marketing", "holds": true}]}]})";
    return StrCat(R"({"folder": ")", trail, R"(", "pseudonyms": [{"keyspace": "people", "pseudonym": "ab12"}]})");
  });
  const CommandResult text = RunWith({"subject", "report", "--user", "38"});
  EXPECT_EQ(text.exitStatus, 0) << text.err;
  for (const char* part : {"consents to marketing", "keyspace people: ab12", "  2  2026-01-02T03:04:05Z  request 7\n",
                           "read clicks of cluster main: 3 record(s)", "no policy asked for whom"}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part << " in\n" << text.out;
  }
  EXPECT_EQ(text.out.find("  1  2026"), std::string::npos) << "somebody else's receipt";
  const Json json = Json::parse(RunWith({"subject", "report", "--user", "38", "--json"}).out);
  std::ofstream(folder_ + "/receipts/head") << "x";
  ExpectFailure(RunWith({"subject", "report", "--user", "38"}), 1, "kveil receipts verify");
  std::filesystem::remove(folder_ + "/receipts/head");
  ExpectFailure(RunWith({"subject", "report", "--user", "38"}), 1, "kveil receipts verify");
  EXPECT_EQ(json["receipts"].size(), 1u);
  EXPECT_EQ(json["known"].size(), 1u);
  EXPECT_EQ(json["trails"][0]["done"][0]["records"], 3);
}

}  // namespace
}  // namespace kveil::cli
