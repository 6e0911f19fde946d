// Runs `kveil ARGUMENTS...` inside the test and keeps what it printed.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "cli/cli.h"

namespace kveil::cli {

struct CommandResult {
  int exitStatus = 0;
  std::string out;
  std::string err;
};

class CommandTest : public testing::Test {
 protected:
  CommandTest() {
    char path[] = "/tmp/kveil-cli-XXXXXX";
    folder_ = mkdtemp(path);
  }
  ~CommandTest() override { std::filesystem::remove_all(folder_); }

  static CommandResult Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "kveil");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    log::Flush();  // Of what the test itself did before: another thread writes the lines.
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    CommandResult result;
    result.exitStatus = RunCommandLine(static_cast<int>(arguments.size()), argv.data());
    result.out = testing::internal::GetCapturedStdout();
    result.err = testing::internal::GetCapturedStderr();
    return result;
  }

  // Fails with this exit status, prints nothing, and says why in one line.
  static void ExpectFailure(const CommandResult& result, int exitStatus, std::string_view said) {
    EXPECT_EQ(result.exitStatus, exitStatus) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(result.err.ends_with("\n"));
    EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
  }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    return path;
  }

  std::string folder_;
};

}  // namespace kveil::cli
