// `kveil epochs`: what it asks the agent, and what it makes of its answer.
#include <gtest/gtest.h>

#include "admin_fixture.h"

namespace kveil::cli {
namespace {

constexpr char kEpochs[] = R"({"allCounted": true, "problem": "", "note": "", "epochs": [
      {"number": 1, "state": "destroyed", "made": "2026-11-22T06:10:04Z", "destroyed": "2026-11-29T06:10:31Z", "keys": 0},
      {"number": 2, "state": "ending", "made": "2026-11-29T06:10:05Z", "keys": 38},
      {"number": 3, "state": "inUse", "made": "2026-11-30T06:10:05Z", "keys": 7}]})";

TEST_F(AdminCommandTest, EpochsAreListedALineEach) {
  AnswerWith(kEpochs);
  const CommandResult result = RunWith({"epochs", "list"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out,
            "1  2026-11-22T06:10:04Z  destroyed 2026-11-29T06:10:31Z\n"
            "2  2026-11-29T06:10:05Z  ending: its keys move to the next  38 key(s)\n"
            "3  2026-11-30T06:10:05Z  in use  7 key(s)\n");
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "listEpochs"})"));
  EXPECT_EQ(Json::parse(RunWith({"epochs", "list", "--json"}).out), Json::parse(kEpochs));
}

TEST_F(AdminCommandTest, EpochsThatDoNotTurnAreAnError) {
  Json stuck = Json::parse(kEpochs);
  stuck["problem"] = "the epochs do not turn: a key is damaged";
  stuck["note"] = "old copies still open";
  stuck["oldCopies"] = "can still be opened: vault keeps what does";
  stuck["allCounted"] = false;
  AnswerWith(stuck.dump());
  const CommandResult result = RunWith({"epochs", "list"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_EQ(result.err, "kveil epochs list: the epochs do not turn: a key is damaged\n");
  EXPECT_NE(result.out.find("NOTE old copies still open\n"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("old copies of the registry can still be opened: vault keeps what does\n"),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("more than 38 key(s)\n"), std::string::npos) << result.out;
}

TEST_F(AdminCommandTest, ATurnIsBegunAndGoesOnByItself) {
  AnswerWith(R"({"ending": 3})");
  const CommandResult result = RunWith({"epochs", "turn"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out, "epoch 3 ends; its keys move to the next one in the background: kveil epochs list\n");
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "turnEpochs"})"));
}

TEST_F(AdminCommandTest, ATurnIsWaitedForUntilNoEpochIsEnding) {
  Json answer = Json::parse(kEpochs);  // of both commands
  answer["ending"] = 2;
  AnswerWith(answer.dump());
  const CommandResult underWay = RunWith({"epochs", "turn", "--wait", "0"});
  EXPECT_EQ(underWay.exitStatus, 3);
  EXPECT_EQ(underWay.err, "kveil epochs turn: the turn is still under way; it goes on\n");
  answer["epochs"][1]["state"] = "destroyed";
  AnswerWith(answer.dump());
  EXPECT_EQ(RunWith({"epochs", "turn", "--wait", "0"}).exitStatus, 0);
  answer["ending"] = 3;  // nothing has begun yet
  AnswerWith(answer.dump());
  EXPECT_EQ(RunWith({"epochs", "turn", "--wait", "0"}).exitStatus, 3);
}

// Counting keys takes the agent's time, and it may be busy or restart while the epochs turn.
TEST_F(AdminCommandTest, ATurnIsWaitedForWithoutCountingKeysAndThroughPollsThatFail) {
  Json ended = Json::parse(kEpochs);
  ended["epochs"][1]["state"] = "destroyed";
  Handle([ended, isPolled = false](const Json& request) mutable -> std::string {
    if (request["command"] == "turnEpochs") return R"({"ending": 2})";
    const bool isPoll = request.contains("keys") && !request["keys"].get<bool>();
    if (!isPoll && isPolled) return ended.dump();
    isPolled = isPolled || isPoll;
    return admin::ErrorAnswer(absl::UnavailableError("the agent is starting"));
  });
  const CommandResult result = RunWith({"epochs", "turn", "--wait", "0"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_NE(result.out.find("3  2026-11-30T06:10:05Z  in use  7 key(s)\n"), std::string::npos) << result.out;
}

TEST_F(AdminCommandTest, ATurnThatHasToWaitSaysForWhat) {
  AnswerWith(R"({"ending": 3, "waits": "the next turn waits: agent node-7 is of a version of old"})");
  const CommandResult result = RunWith({"epochs", "turn"});
  EXPECT_EQ(result.exitStatus, 3);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "kveil epochs turn: the turn has not begun, and begins by itself when it can: the next turn "
            "waits: agent node-7 is of a version of old\n");
}

TEST_F(AdminCommandTest, AKeyIsGivenUpWithAReceipt) {
  AnswerWith(R"({"scope": "topic", "receipt": {"number": 7}})");
  const CommandResult result = RunWith({"epochs", "give-up", "00ff", "--reason", "disk"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(
      result.out,
      "the key of a topic is given up; what was sealed with it opens never again\nreceipt 7 (kveil receipts show)\n");
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "giveUpKey", "key": "00ff", "reason": "disk"})"));
  AnswerWith(R"({"scope": "topic", "receipt": {"error": "the disk is full"}})");
  EXPECT_EQ(RunWith({"epochs", "give-up", "00ff"}).exitStatus, 4);
}

}  // namespace
}  // namespace kveil::cli
