// `kveil consent` and `kveil user`: what they ask the agent, and what they make of its answer.
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "admin_fixture.h"
#include "base/text.h"

namespace kveil::cli {
namespace {

// An agent that keeps what it is told.
class ConsentTest : public AdminCommandTest {
 protected:
  ConsentTest() {
    Handle([this](const Json& request) { return Answer(request); });
  }
  std::string Answer(const Json& request) {
    requests_.push_back(request);
    const std::string command = request.at("command");
    if (command == "awaitChanges") {
      return Json{{"spread", {{"complete", isComplete_}, {"agents", Json::array({{{"name", "b"}}})}}},
                  {"opening", openingOfWait_}}
          .dump();
    }
    if (command == "readUser") return known_.dump();
    if (command == "rereadConsents") {
      const bool isKnown = request.at("keyspace") == "clicks";
      if (isKnown) return Json{{"follower", "b"}, {"followed", isFollowed_}}.dump();
      return admin::ErrorAnswer(absl::NotFoundError("no topic of consents was ever followed"));
    }
    const Json& changes = request.at("changes");
    mostBytes_ = std::max(mostBytes_, request.dump().size());
    mostChanges_ = std::max(mostChanges_, changes.size());
    if (unavailable_ > 0) {
      --unavailable_;
      return admin::ErrorAnswer(absl::UnavailableError("does not answer in time"));
    }
    Json outcomes = Json::array();
    for (const Json& change : changes) {
      const std::string user = change.at("user");
      if (user == failsAt_) return admin::ErrorAnswer(absl::InternalError("no more"));
      const std::string what = StrCat(user, "/", change.at("name").get<std::string>());
      const std::string state =
          StrCat(change.at("action").get<std::string>(), " ", change.value("until", change.value("value", "")));
      const bool isNew = state_[what] != state;
      state_[what] = state;
      outcomes.push_back(user == "erased"  ? "erased"
                         : user == "full"  ? "tooMany"
                         : user == "bad"   ? "damaged"
                         : user == "topic" ? "followed"
                         : isNew           ? "changed"
                                           : "unchanged");
    }
    return Json{{"outcomes", outcomes}, {"keyspaces", {"clicks"}},   {"number", isKnown_ ? ++number_ : 0},
                {"opening", "a/1"},     {"undeclared", undeclared_}, {"known", isKnown_},
                {"unnamed", isUnnamed_}}
        .dump();
  }
  CommandResult Import(const std::string& text, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"consent", "import", Write("consents", text)});
    return RunWith(more);
  }
  static std::string Lines(size_t count) {
    std::string lines = "user,purpose,state,until\n";
    for (size_t i = 1; i <= count; ++i) StrAppend(&lines, i, ",marketing,", i % 2 == 0 ? "granted" : "withdrawn", "\n");
    return lines;
  }

  std::vector<Json> requests_;
  std::map<std::string, std::string> state_;
  Json known_ = {{"known", Json::array()}};
  std::string failsAt_;
  std::vector<std::string> undeclared_;
  std::string openingOfWait_ = "a/1";
  bool isComplete_ = true, isUnnamed_ = false, isFollowed_ = true, isKnown_ = true;
  int unavailable_ = 0;
  size_t mostBytes_ = 0, mostChanges_ = 0, number_ = 0;
};

TEST_F(ConsentTest, GrantsAndWithdrawsAndWaitsForTheAgents) {
  const CommandResult granted = RunWith({"consent", "grant", "--user", "38", "--purpose", "marketing", "--until",
                                         "2027-01-01", "--keyspace", "clicks", "--wait", "5"});
  EXPECT_EQ(granted.exitStatus, 0) << granted.err;
  EXPECT_NE(granted.out.find("consent to marketing until 2027-01-01: recorded\nkeyspace(s): clicks\n"),
            std::string::npos)
      << granted.out;
  ASSERT_EQ(requests_.size(), 2u);
  EXPECT_EQ(requests_[0], Json::parse(R"({"command": "changeUsers", "keyspace": "clicks", "changes":
      [{"user": "38", "action": "grant", "name": "marketing", "until": "2027-01-01"}]})"));
  EXPECT_EQ(requests_[1], Json::parse(R"({"command": "awaitChanges", "number": 1, "waitSeconds": 5})"));
  const CommandResult withdrawn = RunWith({"consent", "withdraw", "--user", "0XFF", "--as", "hex", "--purpose", "x"});
  EXPECT_EQ(withdrawn.exitStatus, 1) << "not hexadecimal digits";
  EXPECT_EQ(RunWith({"consent", "withdraw", "--user", "38", "--purpose", "marketing"}).exitStatus, 0);
  EXPECT_EQ(requests_[2].at("changes").at(0).at("action"), "withdraw");
  EXPECT_FALSE(requests_[2].contains("keyspace"));
}

TEST_F(ConsentTest, SaysWhenNotEveryAgentKnows) {
  const std::vector<std::string> withdraw = {"consent", "withdraw", "--user", "38", "--purpose", "marketing"};
  isComplete_ = false;
  CommandResult result = RunWith(withdraw);
  EXPECT_EQ(result.exitStatus, 3);
  EXPECT_NE(result.err.find("recorded, but not every agent has confirmed"), std::string::npos) << result.err;
  isComplete_ = true;
  openingOfWait_ = "a/2";
  result = RunWith(withdraw);
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.err.find("run the same command again"), std::string::npos) << result.err;
}

TEST_F(ConsentTest, FailsWhenItCannotBeRecorded) {
  CommandResult result = RunWith({"consent", "grant", "--user", "erased", "--purpose", "a"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.out.find("the user was erased"), std::string::npos) << result.out;
  EXPECT_EQ(RunWith({"consent", "withdraw", "--user", "erased", "--purpose", "a"}).exitStatus, 0)
      << "nothing is known, which is what was asked for";
  result = RunWith({"user", "set", "--user", "full", "--attribute", "a=b", "--json"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_EQ(Json::parse(result.out).at("outcomes").at(0), "tooMany");
}

TEST_F(ConsentTest, FailsWhenThereIsNobodyToWithdrawFrom) {
  isKnown_ = false;
  const CommandResult result = RunWith({"consent", "withdraw", "--user", "0x26", "--purpose", "a"});
  ExpectFailure(result, 1, "nothing was ever known of this user");
  EXPECT_EQ(requests_.size(), 1u) << "there is nothing to wait for";
}

TEST_F(ConsentTest, WarnsOfAKeyspaceThatNoPolicyNames) {
  isUnnamed_ = true;
  const std::string file = Write("consents", "39,a,granted\n");
  for (const CommandResult& result :
       {RunWith({"consent", "grant", "--user", "38", "--purpose", "a", "--keyspace", "custmers"}),
        RunWith({"consent", "import", file, "--keyspace", "custmers"})}) {
    EXPECT_EQ(result.exitStatus, 0) << result.err;
    EXPECT_NE(result.err.find("warning: no policy of this agent names the keyspace custmers"), std::string::npos)
        << result.err;
  }
}

TEST_F(ConsentTest, WarnsOfAPurposeThatNoPolicyDeclares) {
  undeclared_ = {"marketng"};
  for (const CommandResult& result :
       {RunWith({"consent", "grant", "--user", "38", "--purpose", "marketng"}), Import("39,marketng,granted\n")}) {
    EXPECT_EQ(result.exitStatus, 0) << result.err;
    EXPECT_NE(result.err.find("warning: no policy of this agent declares the purpose(s) marketng"), std::string::npos)
        << result.err;
  }
}

TEST_F(ConsentTest, SetsAndRemovesAttributes) {
  EXPECT_EQ(RunWith({"user", "set", "--user", "38", "--attribute", "region=eu", "--attribute", "note=a=b", "--remove",
                     "tenant"})
                .exitStatus,
            0);
  EXPECT_EQ(requests_.at(0).at("changes"), Json::parse(R"([
      {"user": "38", "action": "set", "name": "region", "value": "eu"},
      {"user": "38", "action": "set", "name": "note", "value": "a=b"},
      {"user": "38", "action": "remove", "name": "tenant"}])"));
  ExpectFailure(RunWith({"user", "set", "--user", "38", "--attribute", "region"}), 1, "\"region\" is not NAME=VALUE");
  ExpectFailure(RunWith({"user", "set", "--user", "38"}), 1, "nothing to do");
}

TEST_F(ConsentTest, ShowsWhatIsKnown) {
  known_ = Json::parse(R"({"known": [{"keyspace": "clicks", "damaged": false,
      "consents": [{"purpose": "marketing", "holds": true}, {"purpose": "news", "until": "2020-01-01", "holds": false}],
      "attributes": [{"name": "region", "value": "eu"}],
      "history": [{"time": "2025-01-01", "uid": 7, "agent": "node:1",
                   "granted": [{"purpose": "news", "until": "2020-01-01"}], "withdrawn": ["x"]}]}]})");
  const CommandResult shown = RunWith({"user", "show", "--user", "38"});
  EXPECT_EQ(shown.exitStatus, 0) << shown.err;
  EXPECT_EQ(shown.out,
            "keyspace clicks:\n  consents to marketing\n  consents to news, ended at 2020-01-01\n"
            "  attribute region = eu\n");
  const CommandResult listed = RunWith({"consent", "list", "--user", "38", "--history"});
  EXPECT_EQ(listed.out.find("region"), std::string::npos);
  EXPECT_NE(listed.out.find("2025-01-01  granted news until 2020-01-01, withdrawn x  (uid 7 at agent node:1)"),
            std::string::npos)
      << listed.out;
  const CommandResult json = RunWith({"consent", "list", "--user", "38", "--json"});
  EXPECT_FALSE(Json::parse(json.out).at("known").at(0).contains("attributes"));
  known_ = {{"known", Json::array()}};
  EXPECT_EQ(RunWith({"user", "show", "--user", "39"}).out, "nothing is known of this user\n");
}

TEST_F(ConsentTest, ImportsAFileInPiecesAndWaitsOnce) {
  const CommandResult result = Import(Lines(600));
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out, "600 change(s) recorded; 0 line(s) were so before; 0 line(s) are of users who were erased\n");
  EXPECT_EQ(result.err, "") << "a progress bar where there is no terminal";
  EXPECT_EQ(state_.size(), 600u);
  EXPECT_EQ(mostChanges_, 256u);
  EXPECT_EQ(requests_.back().at("command"), "awaitChanges");
  EXPECT_EQ(requests_.back().at("number"), number_);
  const CommandResult again = Import(Lines(600) + "erased,a,granted\n", {"--json"});
  EXPECT_EQ(Json::parse(again.out).at("unchanged"), 600);
  EXPECT_EQ(Json::parse(again.out).at("erased"), 1);
  std::string long_ids;
  for (int i = 0; i < 300; ++i) StrAppend(&long_ids, std::string(900, 'x'), i, ",a,granted\n");
  EXPECT_EQ(Import(long_ids).exitStatus, 0);
  EXPECT_LT(mostBytes_, 64u << 10);
}

TEST_F(ConsentTest, ImportsCsvAndJsonLines) {
  EXPECT_EQ(Import("\"a, \"\"b\"\"\",marketing,granted,2027-01-01T00:00:00Z\r\n39,news,withdrawn,\r\n").exitStatus, 0);
  EXPECT_EQ(Import(R"({"user": "40", "purpose": "marketing", "state": "granted", "until": null}
{"user": 41, "purpose": "marketing", "state": "withdrawn"}
)")
                .exitStatus,
            0);
  const std::map<std::string, std::string> expected = {{"a, \"b\"/marketing", "grant 2027-01-01T00:00:00Z"},
                                                       {"39/news", "withdraw "},
                                                       {"40/marketing", "grant "},
                                                       {"41/marketing", "withdraw "}};
  EXPECT_EQ(state_, expected);
}

TEST_F(ConsentTest, NamesABadLineBeforeAnythingIsChanged) {
  const std::vector<std::tuple<std::string, std::string>> bad = {
      {"38,a,granted\n39,a\n", "line 2: it has not the fields"},
      {"38,a,granted\n\n", "line 2: it is empty"},
      {"38,a,given\n", "line 1: its state is neither granted nor withdrawn"},
      {"38,a b,granted\n", "line 1: a purpose is 1 to 64"},
      {"38,a,granted,soon\n", "line 1: \"until\" is no time such as"},
      {"38,a,granted,2020-01-01\n", "line 1: \"until\" is over already"},
      {"38,a,withdrawn,2027-01-01\n", "line 1: what is withdrawn has no end"},
      {",a,granted\n", "line 1: it names no user"},
      {"\xff,a,granted\n", "line 1: it is not UTF-8"},
      {"\"38,a,granted\n", "line 1: a quote is not closed"},
      {"\"38\"x,a,granted\n", "line 1: something follows a closing quote"},
      {"3\"8,a,granted\n", "line 1: a quote within a field"},
      {"\xEF\xBB\xBF"
       "38,a,granted\n",
       "line 1: it begins with a byte order mark"},
      {std::string(9000, 'x') + "\n", "line 1: it is too long"},
      {"38,a,granted\n" + std::string(20'000, 'x'), "line 2: it is too long"},
      {"38,a,granted\r\n" + std::string(8193, 'x') + "\r\n", "line 2: it is too long"},
      {"38,a,granted\n39,b", "line 2: it has not the fields"},
      {std::string(1025, 'x') + ",a,granted\n", "line 1: the user's id is too long"},
      {"{\"user\": \"38\"}\n", "line 1: its state"},
      {"{\"user\": \"38\", \"purpose\": 7, \"state\": \"granted\"}\n", "line 1: \"purpose\" is not a string"},
      {"{\"usr\": \"38\"}\n", "line 1: there is no field \"usr\""},
      {"{\"user\": \"38\"\n", "line 1: it is not a JSON object"},
      {"user,purpose,state\n", "has no line"},
      {"", "has no line"}};
  for (const auto& [text, message] : bad) {
    const CommandResult result = Import(text);
    ExpectFailure(result, 1, message);
    EXPECT_NE(result.err.find("nothing was changed"), std::string::npos) << result.err;
  }
  ExpectFailure(Import("38,a,granted\nanna,a,granted\n", {"--as", "int64"}), 1,
                "line 2: the user's id is not a 64-bit");
  ExpectFailure(RunWith({"consent", "import", folder_ + "/none"}), 1, "/none: No such file");
  ExpectFailure(RunWith({"consent", "import", "/dev/null"}), 1, "no regular file");
  EXPECT_TRUE(requests_.empty());
}

TEST_F(ConsentTest, SaysHowFarAnImportCameAndGoesOnWhenItIsRepeated) {
  failsAt_ = "300";
  ExpectFailure(Import(Lines(600)), 1, "stopped after 256 of 600 changes: no more; run the same command again");
  failsAt_.clear();
  const CommandResult result = Import(Lines(600), {"--json"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(Json::parse(result.out).at("unchanged").get<int>() + Json::parse(result.out).at("changed").get<int>(), 600);
  EXPECT_EQ(state_.size(), 600u);
}

TEST_F(ConsentTest, MakesPiecesOfAnImportThatTheRegistryFinishesInTime) {
  unavailable_ = 5;
  const CommandResult result = Import(Lines(300));
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(state_.size(), 300u);
  EXPECT_EQ(requests_.at(5).at("changes").size(), 8u) << "half of it, each time";
}

TEST_F(ConsentTest, HasATopicReadAnew) {
  const CommandResult result = RunWith({"consent", "reread", "--keyspace", "clicks"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_NE(result.out.find("the topic of keyspace clicks will be read from its beginning"), std::string::npos)
      << result.out;
  isFollowed_ = false;
  const CommandResult unfollowed = RunWith({"consent", "reread", "--keyspace", "clicks"});
  EXPECT_EQ(unfollowed.exitStatus, 3);
  EXPECT_NE(unfollowed.err.find("what was read before stays in force"), std::string::npos) << unfollowed.err;
  ExpectFailure(RunWith({"consent", "reread", "--keyspace", "other"}), 1, "no topic of consents was ever followed");
  EXPECT_NE(RunWith({"consent", "reread"}).exitStatus, 0) << "of which one?";
}

TEST_F(ConsentTest, NamesTheLinesOfAnImportThatCouldNotBeRecorded) {
  const CommandResult result = Import("38,a,granted\nfull,a,granted\nbad,a,granted\n39,a,granted\ntopic,a,granted\n");
  EXPECT_EQ(result.exitStatus, 1);
  for (const char* told :
       {"2 change(s) recorded", "3 line(s) are not recorded: line 2 line 3 line 5\n",
        "of 1 the user has 64 consents already\n", "of 1 what is stored of the user cannot be read\n",
        "of 1 the user's consents come from a topic\n"}) {
    EXPECT_NE(result.out.find(told), std::string::npos) << told << result.out;
  }
}

}  // namespace
}  // namespace kveil::cli
