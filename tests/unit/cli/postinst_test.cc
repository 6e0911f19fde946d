// The script that dpkg runs after an upgrade: whether the agent may be restarted.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "command_fixture.h"
#include "source_dir.h"

namespace kveil::cli {
namespace {

class PostinstTest : public CommandTest {
 protected:
  std::string WriteProgram(const std::string& name, const std::string& script) {
    const std::string path = Write(name, "#!/bin/sh\n" + script);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
  // With another configuration and what it needs of the environment, as from a drop-in. It waits until it is told to
  // end.
  void StartAgent(const std::string& program) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    agent_ = fork();
    if (agent_ == 0) {
      dup2(ends[0], 0);
      close(ends[0]);
      close(ends[1]);
      execle(program.c_str(), program.c_str(), "agent", "--config", "/x y/agent.json", nullptr,
             std::array<const char*, 3>{"KVEIL_NODE_NAME=node-1", "NOTIFY_SOCKET=/run/x", nullptr}.data());
      _exit(1);
    }
    close(ends[0]);
    toAgent_ = ends[1];
    const auto hasBegun = [this] {
      std::ifstream line(StrCat("/proc/", agent_, "/cmdline"));
      return std::string(std::istreambuf_iterator<char>(line), {}).find("--config") != std::string::npos;
    };
    for (int i = 0; i < 1000 && !hasBegun(); ++i) usleep(10'000);
    ASSERT_TRUE(hasBegun());
  }
  ~PostinstTest() override {
    close(toAgent_);
    waitpid(agent_, nullptr, 0);
  }

  pid_t agent_ = -1;
  int toAgent_ = -1;
};

TEST_F(PostinstTest, ChecksWhatTheRunningAgentWasStartedWith) {
  StartAgent(WriteProgram("kveil", R"(case "$*" in
*--check) echo "$*|$KVEIL_NODE_NAME|$NOTIFY_SOCKET|$HOME|" ;;
*) read -r line ;;
esac
)"));
  WriteProgram("systemctl", StrCat("echo ", agent_, "\n"));
  const std::string said = folder_ + "/said";
  const std::string command = StrCat("PATH=", folder_, ":$PATH sh -c 'set -- none; . ", KVEIL_SOURCE_DIR,
                                     "/packaging/debian/postinst; check' > ", said, " 2>&1");
  ASSERT_EQ(system(command.c_str()), 0);
  std::ifstream file(said);
  std::string line;
  std::getline(file, line);
  EXPECT_EQ(line, "agent --config /x y/agent.json --check|node-1|||");
}

}  // namespace
}  // namespace kveil::cli
