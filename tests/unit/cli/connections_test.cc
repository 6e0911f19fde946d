// `kveil connections` and `kveil top`.
#include <gtest/gtest.h>

#include "admin_fixture.h"
#include "cli/connection_table.h"
#include "cli/plain.h"

namespace kveil::cli {
namespace {

using admin::ConnectionsCommand;

Json OneConnection(uint64_t id, const std::string& clientId, uint64_t responseBytes) {
  return {{"id", id},
          {"workload", "billing.service"},
          {"share", "/system.slice/billing.service"},
          {"uid", 33},
          {"cluster", "main"},
          {"broker", "10.0.0.1:9092"},
          {"client", "10.0.0.7:41234"},
          {"clientTls", "none"},
          {"clientId", clientId},
          {"ageMilliseconds", 185'000},
          {"requestBytes", 512},
          {"responseBytes", responseBytes},
          {"sealed", 0},
          {"opened", 20},
          {"denied", 3},
          {"refused", 0}};
}
Json AnswerOf(const std::vector<Json>& connections, uint64_t total) {
  return {{"connections", connections}, {"total", total}, {"fitting", total}, {"silentWorkers", 0}};
}

class ConnectionsTest : public AdminCommandTest {};

TEST_F(ConnectionsTest, ListsThemInColumns) {
  SetAnswer(AnswerOf({OneConnection(1, "billing-1", 3 << 20)}, 1));
  const CommandResult result = RunWith({"connections"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out,
            "WORKLOAD         UID  CLUSTER  BROKER         CLIENT ID  PRINCIPAL    AGE  TO BROKER  TO CLIENT  SEALED  "
            "OPENED  DENIED  REFUSED\n"
            "billing.service  33   main     10.0.0.1:9092  billing-1  -          3 min      512 B    3.0 MiB       0  "
            "    20       3        0\n"
            "1 connection\n");
  EXPECT_EQ(Asked().at("most"), 1000);
  EXPECT_EQ(Asked().at("recently"), false);
  EXPECT_FALSE(Asked().contains("workload"));
}

TEST_F(ConnectionsTest, AsksForThoseThatAreMeant) {
  SetAnswer(AnswerOf({OneConnection(1, "a", 1)}, 12));
  const CommandResult result = RunWith({"connections", "--workload", "billing", "--cluster", "main", "--most", "1"});
  EXPECT_EQ(Asked().at("workload"), "billing");
  EXPECT_EQ(Asked().at("cluster"), "main");
  EXPECT_EQ(Asked().at("most"), 1);
  EXPECT_TRUE(result.out.ends_with("12 connections; the 1 with the most traffic are listed (--most)\n")) << result.out;
  ExpectFailure(RunWith({"connections", "--most", "0"}), 2, "--most");
  ExpectFailure(RunWith({"connections", "--most", "4001"}), 2, "--most");
}

// A client chooses its id, and whoever lists it looks at a terminal.
TEST_F(ConnectionsTest, ShowsNothingThatATerminalTakesForACommand) {
  const std::string evil =
      "a\x1b]0;x\x07\x1b[2J\n\r\tb\x7f\xc2\x9b"
      "31m\xe2\x80\xae" +
      std::string(100, 'x');
  SetAnswer(AnswerOf({OneConnection(1, evil, 1)}, 1));
  for (const std::vector<std::string>& command : {std::vector<std::string>{"connections"}, {"top", "--once"}}) {
    const CommandResult result = RunWith(command);
    EXPECT_EQ(result.exitStatus, 0) << result.err;
    EXPECT_NE(result.out.find("a\\x1b]0;x\\x07\\x1b[2J\\x0a\\x0d\\x09b"), std::string::npos) << result.out;
    for (const char byte : result.out) EXPECT_TRUE(byte == '\n' || (byte >= 0x20 && byte < 0x7f)) << result.out;
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), command.size() == 1 ? 3 : 4) << result.out;
  }
  EXPECT_EQ(Plain("\xc2\x85\xe2\x80\x8f\xe2\x81\xa9"), "\\xc2\\x85\\xe2\\x80\\x8f\\xe2\\x81\\xa9");
  EXPECT_EQ(Plain("J\xc3\xbcrgen \xe2\x82\xac"), "J\xc3\xbcrgen \xe2\x82\xac");
}

TEST_F(ConnectionsTest, PrintsWhatTheAgentSaysAsJson) {
  Json answer = AnswerOf({OneConnection(1, "\x1b", 1)}, 1);
  answer["later"] = 1;
  SetAnswer(answer);
  const CommandResult result = RunWith({"connections", "--json"});
  EXPECT_EQ(result.exitStatus, 0);
  EXPECT_EQ(Json::parse(result.out), answer);
  EXPECT_EQ(result.out.find('\x1b'), std::string::npos);
}

TEST_F(ConnectionsTest, FailWhereSomeAreMissing) {
  Json answer = AnswerOf({OneConnection(1, "a", 1)}, 1);
  answer["silentWorkers"] = 1;
  SetAnswer(answer);
  const CommandResult result = RunWith({"connections"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.err.find("1 worker thread(s) of the agent did not answer in time"), std::string::npos) << result.err;
  SetAnswer(absl::UnimplementedError("unknown command"));
  ExpectFailure(RunWith({"connections"}), 1, "unknown command");
  ExpectFailure(RunWith({"top"}), 1, "unknown command");
}

TEST_F(ConnectionsTest, TopHasRatesOfTwoLooks) {
  int looks = 0;
  Handle([&looks](const Json& request) {
    EXPECT_EQ(request.at("recently"), true);
    const uint64_t busy = ++looks == 1 ? 0 : 100 << 20;
    return AnswerOf({OneConnection(1, "idle", 5 << 20), OneConnection(2, "busy", busy)}, 2).dump();
  });
  const CommandResult result = RunWith({"top", "--once"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(looks, 2);
  EXPECT_TRUE(result.out.starts_with("kveil top: 2 connections\n\nWORKLOAD")) << result.out;
  EXPECT_LT(result.out.find("busy"), result.out.find("idle")) << result.out;
  EXPECT_NE(result.out.find(" MiB "), std::string::npos) << result.out;
}

TEST(RateMeterTest, KnowsNoRateOfWhatItHasNotSeen) {
  using std::chrono::seconds;
  RateMeter meter;
  ConnectionsCommand::Connection one;
  one.id = 7;
  one.ageMilliseconds = 5000;
  one.opened = 100;
  const RateMeter::Time begin{};
  EXPECT_FALSE(meter.Of({one}, begin + seconds(1)).at(0).has_value());
  one.ageMilliseconds = 7000;
  one.opened = 120;
  EXPECT_EQ(meter.Of({one}, begin + seconds(3)).at(0)->opened, 10);
  // Another agent counts its connections anew.
  one.ageMilliseconds = 100;
  EXPECT_FALSE(meter.Of({one}, begin + seconds(4)).at(0).has_value());
  EXPECT_EQ(meter.Of({}, begin + seconds(5)).size(), 0u);
  EXPECT_FALSE(meter.Of({one}, begin + seconds(6)).at(0).has_value());
}

TEST(ConnectionTableTest, CutsOffLongTexts) {
  ConnectionsCommand::Connection one;
  one.workload = "/kubepods.slice/" + std::string(300, 'p');
  one.principal = "J\xc3\xbcrgen";
  const std::vector<std::string> lines = ConnectionTable({one});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_TRUE(lines[1].starts_with("/kubepods.slice/" + std::string(22, 'p') + "..  0 ")) << lines[1];
  EXPECT_EQ(lines[1].size(), lines[0].size() + 1) << "columns are of characters, not of bytes";
  EXPECT_EQ(ShortSize(1023), "1023 B");
  EXPECT_EQ(ShortSize(1536), "1.5 KiB");
  EXPECT_EQ(ShortSize(5e15), "4547 TiB");
}

}  // namespace
}  // namespace kveil::cli
