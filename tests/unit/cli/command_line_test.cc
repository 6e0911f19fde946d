// The command line itself: help, and what becomes of mistakes.
#include <gtest/gtest.h>

#include "command_fixture.h"

namespace kveil::cli {
namespace {

class CommandLineTest : public CommandTest {};

TEST_F(CommandLineTest, helpsWithEverySubcommand) {
  const CommandResult all = Run({"--help"});
  EXPECT_EQ(all.exitStatus, 0);
  EXPECT_EQ(all.err, "");
  for (const std::string command : {"agent", "status", "erase", "policy", "inspect", "detach"}) {
    EXPECT_NE(all.out.find("\n  " + command), std::string::npos) << command << " in\n" << all.out;
    const CommandResult one = Run({command, "--help"});
    EXPECT_EQ(one.exitStatus, 0) << command;
    EXPECT_EQ(one.err, "");
    EXPECT_NE(one.out.find("Example: kveil " + command), std::string::npos) << one.out;
  }
  EXPECT_NE(Run({"policy", "check", "--help"}).out.find("Example: kveil policy check"), std::string::npos);
}

TEST_F(CommandLineTest, tellsItsVersion) {
  const CommandResult result = Run({"--version"});
  EXPECT_EQ(result.exitStatus, 0);
  EXPECT_TRUE(result.out.starts_with("kveil ")) << result.out;
}

TEST_F(CommandLineTest, refusesWhatItDoesNotKnow) {
  ExpectFailure(Run({}), 2, "A subcommand is required");
  ExpectFailure(Run({"frobnicate"}), 2, "kveil: there is no \"frobnicate\"");
  ExpectFailure(Run({"--frobnicate", "status"}), 2, "--frobnicate");
  ExpectFailure(Run({"status", "--frobnicate"}), 2, "--frobnicate");
  ExpectFailure(Run({"status", "too", "many"}), 2, "too");
  ExpectFailure(Run({"policy"}), 2, "A subcommand is required");
  ExpectFailure(Run({"agent", "--json"}), 2, "--json");
}

TEST_F(CommandLineTest, asksForWhatIsMissing) {
  ExpectFailure(Run({"erase"}), 2, "--user");
  ExpectFailure(Run({"erase", "--user"}), 2, "--user");
  ExpectFailure(Run({"inspect"}), 2, "VALUE");
}

TEST_F(CommandLineTest, failsWithoutAConfiguration) {
  const std::string missing = folder_ + "/missing.json";
  for (const std::string command : {"agent", "status", "detach"}) {
    const CommandResult result = Run({command, "--config", missing});
    ExpectFailure(result, 1, missing);
    EXPECT_TRUE(result.err.starts_with("kveil " + command + ": ")) << result.err;
  }
  ExpectFailure(Run({"erase", "--user", "38", "--config", missing}), 1, missing);
  ExpectFailure(Run({"status", "--config", folder_ + "/two\nlines"}), 1, "/two lines");
  ExpectFailure(Run({"policy", "check", "--config", missing}), 1, missing);
}

TEST_F(CommandLineTest, saysWhatIsWrongWithAConfiguration) {
  const std::string bad = Write("agent.json", R"({"intercept": {"targets": []}})");
  for (const std::string command : {"agent", "status", "detach"}) {
    ExpectFailure(Run({command, "--config", bad}), 1, StrCat(bad, ": /intercept/targets"));
  }
}

}  // namespace
}  // namespace kveil::cli
