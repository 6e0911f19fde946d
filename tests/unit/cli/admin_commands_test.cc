// `kveil status` and `kveil erase`: what they ask the agent, and what they make of its answer.
#include <gtest/gtest.h>

#include <mutex>

#include "command_fixture.h"
#include "nlohmann/json.hpp"
#include "observe/admin_server.h"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

class AdminCommandTest : public CommandTest {
 protected:
  AdminCommandTest() {
    const std::string socket = folder_ + "/admin.sock";
    config_ = Write("agent.json",
                    StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},
                               "admin": {"socket": ")",
                           socket, R"("}})"));
    observe::AdminServer::Options options;
    options.socketPath = socket;
    auto listening = observe::AdminServer::Listen(std::move(options));
    if (!listening.ok()) ADD_FAILURE() << listening.status();
    agent_ = *std::move(listening);
    for (const char* command : {"status", "erase"}) {
      agent_->Handle(command, [this](std::string_view request) -> absl::StatusOr<std::string> {
        std::lock_guard<std::mutex> lock(mutex_);
        request_ = std::string(request);
        if (!answer_.ok()) return answer_.status();
        return answer_->dump();
      });
    }
    agent_->Start();
  }

  CommandResult RunWith(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--config", config_});
    return Run(std::move(arguments));
  }
  void AnswerWith(const std::string& json) { answer_ = Json::parse(json); }
  Json Asked() {
    std::lock_guard<std::mutex> lock(mutex_);
    return Json::parse(request_);
  }

  static constexpr char kReady[] = R"({"version": "1.2", "ready": true, "uptimeSeconds": 90, "namespaces": 1,
      "connections": 7, "policies": {"files": 2, "topics": 3, "generation": 1},
      "records": {"sealed": 10, "opened": 9, "dropped": 8, "refused": 6}, "kernel": "6.1", "problems": []})";

  std::string config_;
  std::mutex mutex_;
  std::string request_;
  absl::StatusOr<Json> answer_ = Json::object();
  std::unique_ptr<observe::AdminServer> agent_;
};

TEST_F(AdminCommandTest, statusOfAReadyAgentSucceeds) {
  AnswerWith(kReady);
  const CommandResult result = RunWith({"status"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  for (const char* part : {"kveil 1.2 is ready, up 90 s", "1 network namespace, 7 connections",
                           "2 files, 3 topics (generation 1)", "10 sealed, 9 opened, 8 left out, 6 refused"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "status"})"));
  EXPECT_EQ(Json::parse(RunWith({"status", "--json"}).out), Json::parse(kReady));
}

TEST_F(AdminCommandTest, statusFailsWhenSomethingIsWrong) {
  Json wrong = Json::parse(kReady);
  wrong["problems"] = Json::parse(R"([{"name": "keys", "message": "the registry is locked"}])");
  AnswerWith(wrong.dump());
  for (const bool json : {false, true}) {
    const CommandResult result = json ? RunWith({"status", "--json"}) : RunWith({"status"});
    EXPECT_EQ(result.exitStatus, 1);
    EXPECT_NE(result.out.find("the registry is locked"), std::string::npos);
    EXPECT_EQ(result.err, "kveil status: ready, but 1 problem\n");
  }
}

TEST_F(AdminCommandTest, statusFailsWhileTheAgentIsNotReady) {
  Json notReady = Json::parse(kReady);
  notReady["ready"] = false;
  AnswerWith(notReady.dump());
  const CommandResult result = RunWith({"status"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.out.find("is NOT ready"), std::string::npos);
  EXPECT_EQ(result.err, "kveil status: not ready, 0 problems\n");
}

TEST_F(AdminCommandTest, failWhereNoAgentRuns) {
  agent_.reset();
  ExpectFailure(RunWith({"status"}), 1, "admin.sock");
  ExpectFailure(RunWith({"erase", "--user", "38"}), 1, "admin.sock");
}

TEST_F(AdminCommandTest, failOnAnAnswerOfAnotherShape) {
  AnswerWith(R"({"ready": "perhaps"})");
  const CommandResult result = RunWith({"status"});
  ExpectFailure(result, 1, "unexpected");
  EXPECT_TRUE(result.err.starts_with("kveil: ")) << result.err;
  AnswerWith(R"(["not", "an", "object"])");
  ExpectFailure(RunWith({"status"}), 1, "kveil status: ");
}

TEST_F(AdminCommandTest, eraseNamesTheUserAndTheKeyspace) {
  AnswerWith(R"({"erased": {"time": "2026-01-02T03:04:05Z", "keys": 2, "keyspaces": ["clicks", "orders"],
                 "filesClean": true}})");
  const CommandResult result = RunWith({"erase", "--user", "38"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_NE(result.out.find("erased at 2026-01-02T03:04:05Z: 2 key(s) destroyed, keyspace(s): clicks orders"),
            std::string::npos)
      << result.out;
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "erase", "user": "38"})"));
  RunWith({"erase", "--user", "a \"quoted\" one", "--keyspace", "people"});
  EXPECT_EQ(Asked(), Json::parse(R"({"command": "erase", "user": "a \"quoted\" one", "keyspace": "people"})"));
}

TEST_F(AdminCommandTest, eraseSaysWhenTheKeysAreNotOutOfTheFilesYet) {
  AnswerWith(R"({"erased": {"time": "x", "keys": 1, "keyspaces": ["clicks"], "filesClean": false}})");
  EXPECT_NE(RunWith({"erase", "--user", "38"}).out.find("write-ahead log"), std::string::npos);
}

TEST_F(AdminCommandTest, eraseFailsWithTheAgentsReason) {
  answer_ = absl::NotFoundError("no keys of this user");
  ExpectFailure(RunWith({"erase", "--user", "38"}), 1, "kveil erase: no keys of this user");
  ExpectFailure(RunWith({"erase", "--user", ""}), 1, "--user");
  ExpectFailure(RunWith({"erase", "--user", "\xff"}), 1, "UTF-8");
}

}  // namespace
}  // namespace kveil::cli
