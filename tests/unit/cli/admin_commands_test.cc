// `kveil status` and `kveil erase`: what they ask the agent, and what they make of its answer.
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <set>
#include <tuple>

#include "admin_fixture.h"
#include "base/bytes.h"
#include "formats/user_id.h"

namespace kveil::cli {
namespace {

constexpr char kReady[] = R"({"version": "1.2", "ready": true, "uptimeSeconds": 90, "namespaces": 1,
      "connections": 7, "policies": {"files": 2, "topics": 3, "generation": 1, "digest": "0123456789abcdef"},
      "records": {"sealed": 10, "opened": 9, "dropped": 8, "refused": 6}, "kernel": "6.1", "problems": []})";

TEST_F(AdminCommandTest, StatusOfAReadyAgentSucceeds) {
  AnswerWith(kReady);
  const CommandResult result = RunWith({"status"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  for (const char* part :
       {"kveil 1.2 is ready, up 90 s", "1 network namespace, 7 connections",
        "2 files, 3 topics (generation 1), SHA-256 0123456789ab\n", "10 sealed, 9 opened, 8 left out, 6 refused"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "status"})"));
  EXPECT_EQ(Json::parse(RunWith({"status", "--json"}).out), Json::parse(kReady));
}

TEST_F(AdminCommandTest, StatusSaysAsWhichVersionPoliciesAreSigned) {
  Json isSigned = Json::parse(kReady);
  isSigned["policies"]["version"] = 7;
  AnswerWith(isSigned.dump());
  const CommandResult result = RunWith({"status"});
  EXPECT_NE(result.out.find("(generation 1), signed as version 7, SHA-256 0123456789ab\n"), std::string::npos)
      << result.out;
  isSigned["policies"]["confirmed"] = "2026-11-29T20:04:48Z";
  AnswerWith(isSigned.dump());
  const CommandResult pulled = RunWith({"status"});
  EXPECT_NE(pulled.out.find("SHA-256 0123456789ab, pulled last at 2026-11-29T20:04:48Z\n"), std::string::npos)
      << pulled.out;
}

TEST_F(AdminCommandTest, StatusFailsWhenSomethingIsWrong) {
  Json wrong = Json::parse(kReady);
  wrong["problems"] = Json::parse(R"([{"name": "keys", "message": "the registry is locked"}])");
  AnswerWith(wrong.dump());
  for (const bool json : {false, true}) {
    const CommandResult result = json ? RunWith({"status", "--json"}) : RunWith({"status"});
    EXPECT_EQ(result.exitStatus, 1);
    EXPECT_NE(result.out.find("the registry is locked"), std::string::npos);
    EXPECT_EQ(result.err, "kveil status: ready, but 1 problem\n");
  }
  EXPECT_EQ(RunWith({"status", "--ready"}).exitStatus, 0) << "of a probe";
}

TEST_F(AdminCommandTest, StatusPrintsNoCommandsForTheTerminal) {
  Json wrong = Json::parse(kReady);
  wrong["notes"] = Json::parse(R"([{"name": "keys", "message": "KEK p/\u001b[2J cannot be used"}])");
  AnswerWith(wrong.dump());
  EXPECT_NE(RunWith({"status"}).out.find("KEK p/\\x1b[2J cannot be used"), std::string::npos);
}

TEST_F(AdminCommandTest, StatusFailsWhileTheAgentIsNotReady) {
  Json notReady = Json::parse(kReady);
  notReady["ready"] = false;
  AnswerWith(notReady.dump());
  const CommandResult result = RunWith({"status"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.out.find("is NOT ready"), std::string::npos);
  EXPECT_EQ(result.err, "kveil status: not ready, 0 problems\n");
  EXPECT_EQ(RunWith({"status", "--ready"}).exitStatus, 1);
}

TEST_F(AdminCommandTest, FailWhereNoAgentRuns) {
  agent_.reset();
  ExpectFailure(RunWith({"status"}), 1, "admin.sock");
  ExpectFailure(RunWith({"erase", "--user", "38"}), 1, "admin.sock");
}

// The service has its node's name from its environment, which a prompt has not.
TEST_F(AdminCommandTest, NeedOfTheConfigurationOnlyWhereTheAgentIs) {
  const std::string config =
      StrCat(R"({"intercept": {"targets": 7}, "kubernetes": {}, "admin": {"socket": ")", folder_, R"(/admin.sock"}})");
  config_ = Write("agent.json", config);
  AnswerWith(kReady);
  EXPECT_EQ(RunWith({"status"}).exitStatus, 0);
  AnswerWith(
      R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"]}, "spread": {"complete": true, "agents": []}})");
  EXPECT_EQ(RunWith({"erase", "--user", "38"}).exitStatus, 0);
  AnswerWith(R"({"applied": [], "needRestart": []})");
  EXPECT_EQ(RunWith({"reload"}).exitStatus, 0);
  config_ = Write("agent.json", R"({"admin": {"socket": 7}})");
  ExpectFailure(RunWith({"status"}), 1, "agent.json: /admin/socket");
  config_ = Write("agent.json", R"({"admin": )");
  ExpectFailure(RunWith({"status"}), 1, "agent.json");
}

TEST_F(AdminCommandTest, EraseSaysWhenTheUserWasErasedBeforeAndWhenTheRegistryWasAskedAgain) {
  AnswerWith(R"({"erased": {"time": "x", "keys": 0, "keyspaces": [], "erasedBefore": "then"}, "askedAgain": 1,
                 "keysAgain": 2, "spread": {"complete": true, "agents": []}, "receipt": {"number": 7},
                 "confirmation": {"number": 8}})");
  const CommandResult result = RunWith({"erase", "--user", "38"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  for (const char* part : {"erased before, at then", "2 key(s) had to be destroyed again", "receipts 7 to 8"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  AnswerWith(R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["c"]}, "spread": {"complete": true, "agents": []},
                 "receipt": {"number": 7}, "confirmation": {"error": "the disk is full"}})");
  EXPECT_EQ(RunWith({"erase", "--user", "38"}).exitStatus, 4);
}

TEST_F(AdminCommandTest, ReadmitSaysWhereAndFromWhenOn) {
  AnswerWith(R"({"keyspaces": [{"name": "clicks", "erased": "then"}], "underWay": [], "from": "soon",
                 "receipt": {"number": 7}})");
  CommandResult result = RunWith({"readmit", "--user", "38", "--keyspace", "clicks", "--reason", "request 7"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  for (const char* part : {"readmitted in keyspace clicks, erased there at then", "from soon on", "receipt 7 "}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  EXPECT_EQ(Asked(),
            Json::parse(R"({"command": "readmit", "user": "38", "keyspace": "clicks", "reason": "request 7"})"));
  AnswerWith(R"({"keyspaces": [], "underWay": ["clicks"], "from": "?", "receipt": {}})");
  result = RunWith({"readmit", "--user", "38"});
  ExpectFailure(result, 3, "not readmitted in keyspace clicks: the erasure has yet to reach an agent");
  EXPECT_EQ(result.out, "");
  AnswerWith(R"({"keyspaces": [{"name": "clicks"}], "receipt": {"error": "the disk is full"}})");
  result = RunWith({"readmit", "--user", "38", "--json"});
  EXPECT_EQ(result.exitStatus, 4);
  EXPECT_EQ(result.err, "kveil readmit: readmitted, but there is no receipt: the disk is full\n");
}

TEST_F(AdminCommandTest, FailOnAnAnswerOfAnotherShape) {
  AnswerWith(R"({"ready": "perhaps"})");
  const CommandResult result = RunWith({"status"});
  ExpectFailure(result, 1, "unexpected");
  EXPECT_TRUE(result.err.starts_with("kveil status: ")) << result.err;
  AnswerWith(R"(["not", "an", "object"])");
  ExpectFailure(RunWith({"status"}), 1, "kveil status: ");
}

TEST_F(AdminCommandTest, ReloadSaysWhatIsInForceAndWhatIsNot) {
  AnswerWith(R"({"applied": ["/log/level"], "needRestart": ["/intercept/targets", "/workers"]})");
  const CommandResult result = RunWith({"reload"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out,
            "/log/level is in force\n/intercept/targets needs a restart of the agent\n/workers needs a restart of the "
            "agent\n");
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "reload"})"));
  AnswerWith(R"({"applied": [], "needRestart": []})");
  EXPECT_EQ(RunWith({"reload"}).out, "the configuration is the one in force\n");
  EXPECT_EQ(Json::parse(RunWith({"reload", "--json"}).out), Json::parse(R"({"applied": [], "needRestart": []})"));
  SetAnswer(absl::InvalidArgumentError("agent.json: /log: expected an object, found 3"));
  ExpectFailure(RunWith({"reload"}), 1, "kveil reload: agent.json: /log");
}

TEST_F(AdminCommandTest, EraseNamesTheUserAndTheKeyspace) {
  AnswerWith(R"({"erased": {"time": "2026-01-02T03:04:05Z", "keys": 2, "keyspaces": ["clicks", "orders"],
                 "filesClean": true},
                 "spread": {"complete": true, "agents": [{"name": "a:1", "confirmed": "2026-01-02T03:04:06Z"},
                                                         {"name": "b:2", "refusesFrom": "2026-01-01T00:00:00Z"}]}})");
  const CommandResult result = RunWith({"erase", "--user", "38"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_NE(result.out.find("erased at 2026-01-02T03:04:05Z: 2 key(s) destroyed, keyspace(s): clicks orders"),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("agent a:1 confirmed at 2026-01-02T03:04:06Z"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("agent b:2 has not confirmed; it refuses the user's records from 2026-01-01T00:00:00Z on"),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("is unreadable from now on"), std::string::npos);
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "erase", "user": "38"})"));
  RunWith({"erase", "--user", "a \"quoted\" one", "--keyspace", "people"});
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "erase", "user": "a \"quoted\" one", "keyspace": "people"})"));
}

TEST_F(AdminCommandTest, EraseThatHasNotReachedEveryAgentExits3AndPromisesNothing) {
  const std::string erased = R"("erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"], "filesClean": true})";
  for (const auto& [spread, message] :
       {std::pair{R"(, "spread": {"complete": false, "agents": [{"name": "b", "refusesFrom": "y"}]})",
                  "not every agent has confirmed"},
        std::pair{R"(, "spread": {"complete": false, "agents": [], "error": "registry is out of reach"})",
                  "registry is out of reach"},
        std::pair{"", "of a version that does not know of other agents"}}) {
    AnswerWith(StrCat("{", erased, spread, "}"));
    for (const bool json : {false, true}) {
      const CommandResult result =
          json ? RunWith({"erase", "--user", "38", "--json"}) : RunWith({"erase", "--user", "38", "--wait", "7"});
      EXPECT_EQ(result.exitStatus, 3);
      EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
      EXPECT_EQ(result.out.find("from now on"), std::string::npos) << result.out;
      EXPECT_EQ(Asked().value("waitSeconds", 0), json ? 0 : 7);
    }
  }
}

TEST_F(AdminCommandTest, EraseWithoutAReceiptExits4) {
  AnswerWith(R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"], "filesClean": true},
                 "spread": {"complete": true, "agents": []}, "receipt": {"error": "the disk is full"}})");
  const CommandResult result = RunWith({"erase", "--user", "38", "--reason", "request 7"});
  EXPECT_EQ(result.exitStatus, 4);
  EXPECT_NE(result.err.find("there is no receipt: the disk is full"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("from now on"), std::string::npos);
  EXPECT_EQ(Asked().at("reason"), "request 7");
}

TEST_F(AdminCommandTest, EraseTakesAnIdInTheFormThatItIsDeclaredIn) {
  const auto asked = [this](const std::string& encoding, const std::string& user) {
    EXPECT_EQ(RunWith({"erase", "--as", encoding, "--user", user}).exitStatus, 0) << encoding << " " << user;
    return Asked().at("user").get<std::string>();
  };
  AnswerWith(R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"], "filesClean": true},
                 "spread": {"complete": true, "agents": []}})");
  EXPECT_EQ(asked("text", "Anna"), "Anna");
  EXPECT_EQ(asked("int64", "-7"), "-7");
  EXPECT_EQ(asked("uuid", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  EXPECT_EQ(asked("hex", "FF01"), "ff01");
  EXPECT_EQ(asked("base64", "_-E"), "/+E=");
  ExpectFailure(RunWith({"erase", "--as", "int64", "--user", "anna"}), 1, "not a 64-bit integer");
  ExpectFailure(RunWith({"erase", "--as", "uuid", "--user", "38"}), 1, "not a UUID");
  ExpectFailure(RunWith({"erase", "--as", "hex", "--user", "abc"}), 1, "not hexadecimal");
  ExpectFailure(RunWith({"erase", "--as", "base64", "--user", "a"}), 1, "not base64");
  EXPECT_EQ(RunWith({"erase", "--as", "int32", "--user", "38"}).exitStatus, 2);
}

// Whatever bytes sealing takes for an id, the command names the same id.
TEST_F(AdminCommandTest, EraseNamesEveryIdThatSealingAccepts) {
  AnswerWith(R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"], "filesClean": true},
                 "spread": {"complete": true, "agents": []}})");
  std::mt19937 random(std::random_device{}());
  const std::vector<std::string> pieces = {"-",      "--", "=",        "[a,b]",    "{}",
                                           "%%",     "\"", "'",        " ",        "\\",
                                           "$x",     "~",  "#",        "\xC3\xBC", "\xF0\x9F\x98\x80",
                                           "--json", "-h", "@file",    "anna",     "38",
                                           "\x7F",   "\n", "\xC2\x80", "\xFF",     "ab12",
                                           "+/",     "==", "true"};
  size_t accepted = 0;
  for (int i = 0; i < 600; ++i) {
    std::string bytes;
    const size_t size = std::vector<size_t>{1, 3, 8, 16, 400}[random() % 5];
    while (random() % 3 != 0 && i % 2 == 0) bytes += pieces[random() % pieces.size()];
    while (i % 2 == 1 && bytes.size() < size) bytes.push_back(static_cast<char>(random()));
    for (size_t as = 0; as < formats::kIdEncodingNames.size(); ++as) {
      for (const bool isText : {false, true}) {
        std::string scratch;
        std::string_view id;
        const auto encoding = static_cast<formats::IdEncoding>(as);
        const formats::IdProblem problem = isText ? formats::IdOfText(encoding, bytes, scratch, id)
                                                  : formats::IdOfBytes(encoding, AsBytes(bytes), scratch, id);
        if (problem != formats::IdProblem::kNone) continue;
        ++accepted;
        const std::string user(id);
        const std::string name(formats::kIdEncodingNames[as]);
        for (const auto& arguments : {std::vector<std::string>{"erase", "--user=" + user},
                                      std::vector<std::string>{"erase", "--user=" + user, "--as", name}}) {
          const CommandResult result = RunWith(arguments);
          ASSERT_EQ(result.exitStatus, 0) << user << " as " << name << ": " << result.err;
          ASSERT_EQ(Asked().at("user").get<std::string>(), user) << name;
        }
      }
    }
  }
  EXPECT_GT(accepted, 500u);
}

// An agent that erases whoever it is told to.
class EraseManyTest : public AdminCommandTest {
 protected:
  EraseManyTest() {
    Handle([this](const Json& request) { return Answer(request); });
  }
  std::string Answer(const Json& request) {
    if (request.at("command") == "awaitErasure") {
      ++waits_;
      awaited_ = request.at("number");
      Json answer = Json::parse(StrCat(R"({"spread": {"agents": [{"name": "b", "refusesFrom": "y"}], "complete": )",
                                       isComplete_ ? "true" : "false", R"(}, "receipt": {"number": 9}})"));
      return WithOpening(std::move(answer));
    }
    const std::vector<std::string> users = request.at("users");
    if ((mostInTime_ > 0 && users.size() > mostInTime_) || late_ < lateUntil_) {
      ++late_;
      return admin::ErrorAnswer(absl::UnavailableError("does not answer in time"));
    }
    if (lostAfter_ > 0 && receipt_ == lostAfter_) asked_.clear();
    Json outcomes = Json::array();
    for (const std::string& user : users) {
      if (user == failsAt_) return admin::ErrorAnswer(absl::InternalError("no more"));
      outcomes.push_back(!asked_.insert(user).second ? "erasedBefore" : user == "5" ? "noKey" : "erased");
    }
    mostUsers_ = std::max(mostUsers_, users.size());
    mostBytes_ = std::max(mostBytes_, request.dump().size());
    number_ += users.size();
    return WithOpening(Json({{"outcomes", outcomes},
                             {"keys", users.size()},
                             {"number", number_},
                             {"time", "x"},
                             {"receipt", {{"number", ++receipt_}}}}));
  }
  std::string WithOpening(Json answer) {
    if (!openings_.empty()) {
      answer["opening"] = openings_.front();
      openings_.erase(openings_.begin());
    }
    return answer.dump();
  }
  CommandResult EraseFrom(const std::string& text, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"erase", "--users-from", Write("users", text)});
    return RunWith(more);
  }
  static std::string Lines(size_t count) {
    std::string lines;
    for (size_t i = 1; i <= count; ++i) StrAppend(&lines, i, "\n");
    return lines;
  }

  std::set<std::string> asked_;
  std::string failsAt_;
  std::vector<std::string> openings_;  // of the answers to come
  size_t lostAfter_ = 0;               // receipts: then nobody is erased any more
  size_t mostInTime_ = 0;              // users of a piece; 0: any number
  size_t late_ = 0, lateUntil_ = 0;    // pieces that are not answered in time
  size_t receipt_ = 0;
  size_t mostUsers_ = 0, mostBytes_ = 0, number_ = 100, waits_ = 0, awaited_ = 0;
  bool isComplete_ = true;
};

TEST_F(EraseManyTest, SendsTheListInPiecesAndWaitsOnce) {
  const CommandResult result = EraseFrom(Lines(600));
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(asked_.size(), 600u);
  EXPECT_EQ(mostUsers_, 256u);
  EXPECT_EQ(waits_, 1u);
  EXPECT_EQ(awaited_, 700u);
  for (const char* part :
       {"599 user(s) erased", "0 user(s) were erased before; 1 user(s) have no key", "no key: line 5\n",
        "agent b has not confirmed", "is unreadable from now on", "receipts 1 to 9"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  EXPECT_EQ(result.err, "") << "a progress bar where there is no terminal";
  isComplete_ = false;
  const CommandResult again = EraseFrom(Lines(600), {"--json"});
  EXPECT_EQ(again.exitStatus, 3);
  EXPECT_EQ(Json::parse(again.out).at("erasedBefore"), 600);
  EXPECT_EQ(Json::parse(again.out).at("spread").at("complete"), false);
}

TEST_F(EraseManyTest, NamesABadLineBeforeAnybodyIsErased) {
  const std::vector<std::tuple<std::string, std::string, std::string>> bad = {
      {"int64", "38\n39\nanna\n", "line 3: the user's id is not a 64-bit integer"},
      {"text", "38\n\n39\n", "line 2: it is empty"},
      {"text", "38\n\xff\n", "line 2: the user's id is not UTF-8 text"},
      {"text",
       "\xEF\xBB\xBF"
       "38\n",
       "line 1: it begins with a byte order mark"},
      {"text", "38\n" + std::string(9000, 'x') + "\n", "line 2: the user's id"},
      {"text", "38\n 39\n", "line 2: there is a space before or behind the id"},
      {"text", "38\n39", "line 2: it does not end with a line feed, so the file may be cut off; nobody was erased"},
      {"text", "", "has no line"}};
  for (const auto& [encoding, text, message] : bad) {
    ExpectFailure(EraseFrom(text, {"--as", encoding}), 1, message);
  }
  ExpectFailure(RunWith({"erase", "--users-from", folder_ + "/none"}), 1, "/none: No such file");
  ExpectFailure(RunWith({"erase", "--users-from", "x", "--user", "y"}), 2, "user");
  EXPECT_TRUE(asked_.empty());
}

TEST_F(EraseManyTest, SaysHowFarItCameAndGoesOnWhenItIsRepeated) {
  failsAt_ = "300";
  ExpectFailure(EraseFrom(Lines(600)), 1, "stopped after line 256 of 600: no more; run the same command again");
  EXPECT_EQ(waits_, 0u);
  failsAt_.clear();
  const CommandResult result = EraseFrom(Lines(600));
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_NE(result.out.find("were erased before"), std::string::npos);
  EXPECT_EQ(asked_.size(), 600u);
}

// Hundreds of keyspaces and a server that commits slowly: a piece that is too large never ends in time.
TEST_F(EraseManyTest, MakesPiecesThatTheRegistryFinishesInTime) {
  mostInTime_ = 3;
  const CommandResult result = EraseFrom(Lines(300));
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(asked_.size(), 300u);
  EXPECT_LT(late_, 20u) << "it does not remember what was in time";
  // Well again, it goes back to large ones.
  mostInTime_ = 0;
  mostUsers_ = 0;
  asked_.clear();
  lateUntil_ = 5;
  late_ = 0;
  EXPECT_EQ(EraseFrom(Lines(5000)).exitStatus, 0);
  EXPECT_EQ(mostUsers_, 256u);
}

TEST_F(EraseManyTest, AsksForTheWholeListAgainWhenTheRegistryMayHaveLostSome) {
  openings_ = {"a/1", "a/1", "a/2", "a/2", "a/2", "a/2"};  // of two pieces and the wait, twice
  lostAfter_ = 2;
  CommandResult result = EraseFrom(Lines(400));
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(waits_, 2u);
  EXPECT_NE(result.out.find("opened anew"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("399 user(s) had to be erased again"), std::string::npos) << result.out;
  // One that is opened anew all the time.
  openings_.clear();
  for (int i = 0; i < 100; ++i) openings_.push_back(StrCat("a/", i));
  ExpectFailure(EraseFrom(Lines(400)), 1, "may have lost erasures");
}

TEST_F(EraseManyTest, TakesIdsInTheirFormWithCarriageReturnsAndKeepsRequestsShort) {
  EXPECT_EQ(EraseFrom("FF01\r\nAB\n", {"--as", "hex"}).exitStatus, 0);
  EXPECT_EQ(asked_, (std::set<std::string>{"ab", "ff01"}));
  std::string lines;
  for (int i = 0; i < 300; ++i) StrAppend(&lines, std::string(1000, '"'), i, "\n");
  EXPECT_EQ(EraseFrom(lines).exitStatus, 0);
  EXPECT_LT(mostBytes_, size_t{60} << 10);
}

TEST_F(AdminCommandTest, EraseSaysWhenTheKeysAreNotOutOfTheFilesYet) {
  AnswerWith(R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"], "filesClean": false},
                 "spread": {"complete": true, "agents": []}})");
  EXPECT_NE(RunWith({"erase", "--user", "38"}).out.find("write-ahead log"), std::string::npos);
}

TEST_F(AdminCommandTest, EraseFailsWithTheAgentsReason) {
  SetAnswer(absl::NotFoundError("no keys of this user"));
  ExpectFailure(RunWith({"erase", "--user", "38"}), 1, "kveil erase: no keys of this user");
  ExpectFailure(RunWith({"erase", "--user", ""}), 1, "--user");
  ExpectFailure(RunWith({"erase", "--user", "\xff"}), 1, "UTF-8");
}

}  // namespace
}  // namespace kveil::cli
