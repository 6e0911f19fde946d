// `kveil receipts replay`: which receipts it believes, and what it asks the agent for.
#include <gmock/gmock.h>

#include "admin_fixture.h"
#include "evidence/signing_key.h"
#include "receipts/store.h"

namespace kveil::cli {
namespace {

class ReceiptsReplayTest : public AdminCommandTest {
 protected:
  ReceiptsReplayTest() {
    EXPECT_TRUE(store_.Prepare().ok());
    publicKey_ = Write("public.pem", *store_.PublicPem());
    Handle([this](const Json& request) {
      if (request.at("command") == "awaitErasure") {
        waited_ = request;
        return std::string(R"({"spread": {"complete": true, "agents": []}, "receipt": {"number": 9}, "opening": "a"})");
      }
      if (request.at("pseudonyms").empty()) return Json{{"registry", registry_}, {"opening", "a"}}.dump();
      if (request.at("pseudonyms").size() > most_) return std::string(R"({"error": "slow", "code": "Unavailable"})");
      asked_.push_back(request);
      return Json{{"filesClean", filesClean_},
                  {"missing", request.at("pseudonyms").size()},
                  {"keys", 1},
                  {"number", asked_.size()},
                  {"opening", "a"}}
          .dump();
    });
  }
  void Append(const std::string& registry, const std::string& keyspace, std::vector<std::string> pseudonyms) {
    receipts::Receipt receipt;
    receipt.registry = registry;
    receipt.erasure = ++erasure_;
    for (std::string& one : pseudonyms) receipt.users.push_back({{{keyspace, std::move(one), {}}}, 1});
    ASSERT_TRUE(store_.Append(receipt).ok());
  }
  CommandResult Replay(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"receipts", "replay", "--folder", store_.folder(), "--key", publicKey_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunWith(arguments);
  }

  std::string registry_ = "11";  // the agent's
  size_t most_ = 256;            // users that the registry erases in time
  bool filesClean_ = true;
  const receipts::Store store_{folder_ + "/receipts"};
  std::string publicKey_;
  int64_t erasure_ = 0;  // of the last receipt
  std::vector<Json> asked_;
  Json waited_;
};

TEST_F(ReceiptsReplayTest, AsksForEachUserOfTheAgentsRegistryOnce) {
  Append("00", "clicks", {"ff"});  // that the folder was used with before
  Append("11", "clicks", {"aa", "bb"});
  Append("11", "orders", {"cc"});
  Append("11", "clicks", {"aa"});
  Append("22", "clicks", {"dd"});  // as of an hour with a wrong configuration
  const CommandResult result = Replay({"--wait", "5"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_THAT(result.out,
              testing::HasSubstr("3 receipt(s) tell of 3 erased user(s); 3 had to be erased again, 2 key(s)"));
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_EQ(asked_[0], Json::parse(R"({"command": "eraseAgain", "registry": "11", "keyspace": "clicks",
      "pseudonyms": ["aa", "bb"], "erasures": [4, 2], "isDryRun": false, "reason": "repeated from receipts"})"));
  EXPECT_EQ(asked_[1].at("keyspace"), "orders");
  EXPECT_EQ(waited_.at("number"), 2);
  EXPECT_EQ(waited_.at("waitSeconds"), 5);
}

TEST_F(ReceiptsReplayTest, OnlyLooksWhenAskedTo) {
  Append("11", "clicks", {"aa", "bb"});
  const CommandResult result = Replay({"--dry-run", "--json"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(Json::parse(result.out).at("missing"), 2);
  EXPECT_EQ(asked_.at(0).at("isDryRun"), true);
  EXPECT_TRUE(waited_.is_null());
}

TEST_F(ReceiptsReplayTest, AsksForNoMoreAtOnceThanTheAgentTakes) {
  std::vector<std::string> many;
  for (int i = 0; i < 300; ++i) many.push_back(std::to_string(i));
  Append("11", "clicks", many);
  EXPECT_EQ(Replay().exitStatus, 0);
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_EQ(asked_[0].at("pseudonyms").size(), 256u);
  EXPECT_EQ(asked_[1].at("pseudonyms").size(), 44u);
}

TEST_F(ReceiptsReplayTest, BelievesNoReceiptThatIsNotOfTheKey) {
  Append("11", "clicks", {"aa"});
  ExpectFailure(RunWith({"receipts", "replay", "--folder", store_.folder()}), 1, "--folder needs --key");
  const auto other = evidence::SigningKey::Make();
  ExpectFailure(
      RunWith({"receipts", "replay", "--folder", store_.folder(), "--key", Write("other.pem", other->PublicPem())}), 1,
      "no receipt of this registry can be used");
  std::filesystem::remove(store_.folder() + "/00000001.json");
  ExpectFailure(Replay(), 1, "no receipt of this registry can be used");
  EXPECT_TRUE(asked_.empty());
}

// Those that the others tell of can be read until they are erased again.
TEST_F(ReceiptsReplayTest, OneThatIsLostOrChangedHoldsUpNoOther) {
  for (const char* pseudonym : {"aa", "bb", "cc", "dd"}) Append("11", "clicks", {pseudonym});
  std::filesystem::remove(store_.folder() + "/00000001.json");
  for (const char* ending : {".json", ".sig"}) {  // it is signed, and says whom it tells of twice
    std::filesystem::copy_file(StrCat(store_.folder(), "/00000004", ending),
                               StrCat(store_.folder(), "/00000003", ending),
                               std::filesystem::copy_options::overwrite_existing);
  }
  for (const bool isDryRun : {true, false}) {
    asked_.clear();
    const CommandResult result = Replay(isDryRun ? std::vector<std::string>{"--dry-run"} : std::vector<std::string>{});
    EXPECT_EQ(result.exitStatus, 1);
    EXPECT_THAT(result.out, testing::HasSubstr("2 receipt(s) tell of 2 erased user(s)"));
    for (const char* part : {"receipt 1: ", "receipt 3: ", "not repeated: kveil receipts verify"}) {
      EXPECT_THAT(result.err, testing::HasSubstr(part));
    }
    ASSERT_EQ(asked_.size(), 1u);
    EXPECT_EQ(asked_[0].at("pseudonyms"), (Json{"bb", "dd"}));
  }
  EXPECT_EQ(Json::parse(Replay({"--json"}).out).at("faults").size(), 4u);
  std::filesystem::remove(store_.folder() + "/head");
  asked_.clear();
  EXPECT_EQ(Replay().exitStatus, 1);
  EXPECT_EQ(asked_.at(0).at("pseudonyms"), (Json{"bb", "dd"}));
}

TEST_F(ReceiptsReplayTest, AsksASlowRegistryForFewerAtOnce) {
  std::vector<std::string> many;
  for (int i = 0; i < 300; ++i) many.push_back(std::to_string(i));
  Append("11", "clicks", many);
  most_ = 64;
  filesClean_ = false;
  const CommandResult result = Replay();
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_THAT(result.out, testing::HasSubstr("300 had to be erased again"));
  EXPECT_THAT(result.out, testing::HasSubstr("files still hold some of the keys"));
  EXPECT_EQ(asked_.size(), 5u);
  EXPECT_EQ(Json::parse(Replay({"--json"}).out).at("filesClean"), false);
}

TEST_F(ReceiptsReplayTest, SaysWhomTheRegistryDoesNotRemember) {
  Append("11", "clicks", {"aa", "bb"});
  Handle([this](const Json& request) {
    if (request.at("command") == "awaitErasure") {
      return std::string(R"({"spread": {"complete": true, "agents": []}, "receipt": {}, "opening": "a"})");
    }
    return Json{{"registry", registry_}, {"refused", request.at("pseudonyms").size()}, {"opening", "a"}}.dump();
  });
  const CommandResult result = Replay();
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_THAT(result.err, testing::HasSubstr("the registry has no key of 2 of these users, and remembers as many"));
  EXPECT_EQ(Json::parse(Replay({"--json"}).out).at("refused"), 2);
}

TEST_F(ReceiptsReplayTest, IsNotDoneWhenTheRegistryWasOpenedAnewMeanwhile) {
  Append("11", "clicks", {"aa"});
  Handle([](const Json& request) {
    return request.at("command") == "awaitErasure"
               ? std::string(R"({"spread": {"complete": true, "agents": []}, "receipt": {}, "opening": "b"})")
               : std::string(R"({"registry": "11", "missing": 1, "keys": 1, "number": 1, "opening": "a"})");
  });
  ExpectFailure(Replay(), 1, "may have lost erasures; run the same command again");
}

}  // namespace
}  // namespace kveil::cli
