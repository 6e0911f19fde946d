// What a service manager is told, with a socket of the test in its place.
#include "daemon/service_manager.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::daemon {
namespace {

using std::chrono::seconds;
using Lines = std::set<std::string>;

// The manager's end of the socket, at a path or an abstract name.
class NotifySocket {
 public:
  explicit NotifySocket(std::string name) : name_(std::move(name)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name_.data(), name_.size());
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  }
  const std::string& name() const { return name_; }

  // The lines of the next message; empty when there is none.
  Lines Next() {
    UniqueFd attached;
    return Receive(attached);
  }
  // What comes with the next message, which has to be this one.
  UniqueFd NextWithDescriptor(const Lines& expected) {
    UniqueFd attached;
    EXPECT_EQ(Receive(attached), expected);
    return attached;
  }

 private:
  Lines Receive(UniqueFd& attached) {
    char buffer[4096];
    iovec text = {buffer, sizeof(buffer)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header = {};
    header.msg_iov = &text;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    const ssize_t size = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
    if (size < 0) return {};
    if (const cmsghdr* const one = CMSG_FIRSTHDR(&header); one != nullptr) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(one), sizeof(fd));
      attached = UniqueFd(fd);
    }
    const std::string message(buffer, static_cast<size_t>(size));
    return absl::StrSplit(message, '\n', absl::SkipEmpty());
  }

  const std::string name_;
  UniqueFd socket_;
};

class ServiceManagerTest : public ::testing::Test {
 protected:
  ~ServiceManagerTest() override {
    std::filesystem::remove_all(folder_);
    for (const char* variable : kVariables) ::unsetenv(variable);
  }

  static constexpr const char* kVariables[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                               "LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES"};
  static std::string MakeFolder() {
    std::string folder = StrCat(::testing::TempDir(), "service_manager_", ::getpid());
    std::filesystem::create_directory(folder);
    return folder;
  }

  const std::string folder_ = MakeFolder();
  NotifySocket socket_{folder_ + "/notify"};
};

const ServiceManager::State kReady{.isReady = true, .isAlive = true, .status = "ready"};
const ServiceManager::State kNotReady{.isReady = false, .isAlive = true, .status = "NOT ready, keys: gone"};

TEST_F(ServiceManagerTest, HearsOfReadinessOnceItIsThereAndOnlyOnce) {
  ServiceManager manager({.notifySocket = socket_.name()});
  manager.Tell(kNotReady);
  EXPECT_EQ(socket_.Next(), (Lines{"EXTEND_TIMEOUT_USEC=30000000", "STATUS=NOT ready, keys: gone"}));
  manager.Tell(kNotReady);
  EXPECT_EQ(socket_.Next(), (Lines{"EXTEND_TIMEOUT_USEC=30000000"}));
  manager.Tell(kReady);
  EXPECT_EQ(socket_.Next(), (Lines{"READY=1", "STATUS=ready"}));
  manager.Tell(kReady);
  EXPECT_EQ(socket_.Next(), Lines{});
  manager.Tell(kNotReady);
  EXPECT_EQ(socket_.Next(), (Lines{"STATUS=NOT ready, keys: gone"}));
  manager.Tell(kReady);
  EXPECT_EQ(socket_.Next(), (Lines{"STATUS=ready"}));
}

TEST_F(ServiceManagerTest, HearsASignOfLifeFromAnAgentThatIsAliveOnly) {
  ServiceManager manager({.notifySocket = socket_.name(), .hasWatchdog = true});
  manager.Tell(kReady);
  EXPECT_EQ(socket_.Next(), (Lines{"READY=1", "WATCHDOG=1", "STATUS=ready"}));
  manager.Tell(kNotReady);  // somebody else's fault: a restart would not help
  EXPECT_EQ(socket_.Next(), (Lines{"WATCHDOG=1", "STATUS=NOT ready, keys: gone"}));
  manager.Tell({.isReady = false, .isAlive = false, .status = "NOT ready, workers: worker 1 is stuck"});
  EXPECT_EQ(socket_.Next(), (Lines{"STATUS=NOT ready, workers: worker 1 is stuck"}));
  manager.Tell(kReady);
  EXPECT_EQ(socket_.Next(), (Lines{"WATCHDOG=1", "STATUS=ready"}));
}

TEST_F(ServiceManagerTest, GivesAStartThatWaitsMoreTimeAtMostOnceASecond) {
  ServiceManager manager({.notifySocket = socket_.name()});
  for (int i = 0; i < 100; ++i) manager.Starting("the root key is out of reach");
  EXPECT_EQ(socket_.Next(), (Lines{"EXTEND_TIMEOUT_USEC=30000000", "STATUS=starting: the root key is out of reach"}));
  EXPECT_EQ(socket_.Next(), Lines{});
  manager.Starting("its server answers that it is sealed");
  EXPECT_TRUE(socket_.Next().contains("STATUS=starting: its server answers that it is sealed"));
}

TEST_F(ServiceManagerTest, HearsOfAReloadOfAReadyAgent) {
  ServiceManager manager({.notifySocket = socket_.name()});
  manager.Reloading();
  manager.Reloaded();  // it would say READY=1
  EXPECT_EQ(socket_.Next(), Lines{});
  manager.Tell(kReady);
  socket_.Next();
  manager.Reloading();
  const Lines reloading = socket_.Next();
  EXPECT_EQ(reloading.size(), 2u);
  EXPECT_TRUE(reloading.contains("RELOADING=1"));
  EXPECT_TRUE(reloading.begin()->starts_with("MONOTONIC_USEC="));
  manager.Reloaded();
  EXPECT_EQ(socket_.Next(), (Lines{"READY=1"}));
}

TEST_F(ServiceManagerTest, HearsHowLongTheEndMayTake) {
  ServiceManager manager({.notifySocket = socket_.name()});
  manager.Stopping(seconds(11));
  EXPECT_EQ(socket_.Next(), (Lines{"STOPPING=1", "EXTEND_TIMEOUT_USEC=41000000", "STATUS=draining"}));
}

TEST_F(ServiceManagerTest, SaysAgainWhatCouldNotBeSent) {
  const std::string name = folder_ + "/later";
  ServiceManager manager({.notifySocket = name});
  manager.Tell(kReady);
  manager.Reloading();
  manager.Reloaded();
  NotifySocket late(name);
  manager.Tell(kReady);
  EXPECT_EQ(late.Next(), (Lines{"READY=1", "STATUS=ready"}));
}

TEST_F(ServiceManagerTest, HearsOfTheEndOfAReloadAlsoWhenItWasDeafMeanwhile) {
  const std::string name = folder_ + "/deaf";
  auto deaf = std::make_unique<NotifySocket>(name);
  ServiceManager manager({.notifySocket = name});
  manager.Tell(kReady);
  manager.Reloading();
  deaf.reset();
  std::filesystem::remove(name);
  manager.Reloaded();
  NotifySocket later(name);
  manager.Tell(kReady);
  EXPECT_EQ(later.Next(), (Lines{"READY=1"}));
}

// Messages name what clients have chosen.
TEST_F(ServiceManagerTest, KeepsAStatusOnOneLine) {
  ServiceManager manager({.notifySocket = socket_.name()});
  manager.Tell({.isReady = true, .isAlive = true, .status = "ready, tls: a\nMAINPID=1\r\n\0b"});
  EXPECT_EQ(socket_.Next(), (Lines{"READY=1", "STATUS=ready, tls: a MAINPID=1  "}));
  manager.Tell({.isReady = true, .isAlive = true, .status = std::string(5000, 'x')});
  EXPECT_EQ(socket_.Next().begin()->size(), 307u);
}

TEST_F(ServiceManagerTest, IsFoundAtAnAbstractName) {
  NotifySocket abstract(StrCat("@kveil-service-manager-test-", ::getpid()));
  ServiceManager manager({.notifySocket = abstract.name()});
  manager.Tell(kReady);
  EXPECT_TRUE(abstract.Next().contains("READY=1"));
}

TEST_F(ServiceManagerTest, MayBeMissingOrNonsense) {
  for (const std::string& name : {std::string(), std::string("@"), std::string("relative"), std::string("vsock:2:1"),
                                  "/" + std::string(107, 'x'), folder_ + "/nobody"}) {
    ServiceManager manager({.notifySocket = name, .hasWatchdog = true});
    manager.Starting("x");
    manager.Tell(kReady);
    manager.Reloading();
    manager.Reloaded();
    manager.Stopping(seconds(1));
  }
}

TEST_F(ServiceManagerTest, IsTakenOutOfTheEnvironmentAndNothingElseIs) {
  ::setenv("NOTIFY_SOCKET", socket_.name().c_str(), 1);
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
  std::vector<std::string> before;
  for (char** variable = ::environ; *variable != nullptr; ++variable) before.emplace_back(*variable);
  const ServiceManager::Environment environment = ServiceManager::TakeEnvironment();
  EXPECT_EQ(environment.notifySocket, socket_.name());
  EXPECT_TRUE(environment.hasWatchdog);
  size_t left = 0;
  for (char** variable = ::environ; *variable != nullptr; ++variable) ++left;
  EXPECT_EQ(left, before.size() - 3);  // those that there were
  for (const char* variable : kVariables) EXPECT_EQ(::getenv(variable), nullptr) << variable;
  EXPECT_TRUE(ServiceManager::TakeEnvironment().notifySocket.empty());
}

TEST_F(ServiceManagerTest, KeepsADescriptorByItsName) {
  ServiceManager manager({.notifySocket = socket_.name()});
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read(ends[0]), write(ends[1]);
  EXPECT_TRUE(manager.Keep("listener-1", write.get()));
  const UniqueFd kept = socket_.NextWithDescriptor(Lines{"FDSTORE=1", "FDPOLL=0", "FDNAME=listener-1"});
  ASSERT_TRUE(kept.valid());
  ASSERT_EQ(::write(kept.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(read.get(), &byte, 1), 1) << "it is the same one";
  manager.Forget("listener-1");
  EXPECT_EQ(socket_.Next(), (Lines{"FDSTOREREMOVE=1", "FDNAME=listener-1"}));
}

// The kernel has room for so many messages (net.unix.max_dgram_qlen) and no more.
TEST_F(ServiceManagerTest, WhatAManagerHasNoTimeToHearIsSaidAgainInItsOrder) {
  ServiceManager manager({.notifySocket = socket_.name()});
  const UniqueFd any(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int kept = 0;
  while (kept < 100'000 && manager.Keep(StrCat("fd", kept), any.get())) ++kept;
  EXPECT_LT(kept, 100'000) << "what waits has a bound";
  const int last = kept - 1;
  manager.Forget(StrCat("fd", last));
  std::vector<std::string> heard;
  for (int looks = 0; looks < 10'000; ++looks) {
    for (Lines lines = socket_.Next(); !lines.empty(); lines = socket_.Next()) {
      heard.push_back(*lines.begin() + *std::next(lines.begin()));
    }
    if (!heard.empty() && heard.back().starts_with("FDNAME=" + StrCat("fd", last))) break;
    manager.Tell(kReady);
  }
  std::erase_if(heard, [](const std::string& one) { return !one.starts_with("FDNAME="); });
  ASSERT_EQ(heard.size(), static_cast<size_t>(kept));
  EXPECT_EQ(heard.front(), "FDNAME=fd0FDPOLL=0");
  EXPECT_EQ(heard[static_cast<size_t>(last) - 1], StrCat("FDNAME=fd", last - 1, "FDPOLL=0"));
  EXPECT_EQ(heard.back(), StrCat("FDNAME=fd", last, "FDSTOREREMOVE=1")) << "and is not kept before";
}

TEST_F(ServiceManagerTest, WithoutAManagerNothingIsKept) {
  ServiceManager manager({});
  EXPECT_FALSE(manager.Keep("one", 0));
  manager.Forget("one");
  EXPECT_TRUE(manager.TakeKept().empty());
}

// In a process of its own, where the descriptors from 3 on are free.
TEST_F(ServiceManagerTest, TakesWhatAnEarlierProcessHadKept) {
  const auto taken = [](const std::string& count, const std::string& names, int pidBy) {
    const UniqueFd any(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const pid_t child = ::fork();
    if (child == 0) {
      for (const int fd : {3, 4}) (void)::dup2(any.get(), fd);
      for (int fd = 5; fd < 64; ++fd) ::close(fd);
      ::setenv("LISTEN_PID", std::to_string(::getpid() + pidBy).c_str(), 1);
      ::setenv("LISTEN_FDS", count.c_str(), 1);
      ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
      ServiceManager manager(ServiceManager::TakeEnvironment());
      const std::vector<KeptDescriptor> kept = manager.TakeKept();
      bool isRight = kept.size() == 2 && kept[0].name == "a" && kept[1].name == "b" && kept[1].fd.get() == 4;
      for (const KeptDescriptor& one : kept) isRight &= ::fcntl(one.fd.get(), F_GETFD) == FD_CLOEXEC;
      ::_exit(::getenv("LISTEN_FDS") != nullptr ? 2 : kept.empty() ? 1 : isRight ? 0 : 3);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(taken("2", "a:b", 0), 0);
  EXPECT_EQ(taken("3", "a:b:c", 0), 0) << "the third is not there";
  EXPECT_EQ(taken("2", "a:b", 1), 1) << "meant for another process";
  EXPECT_EQ(taken("2", "a", 0), 1);
  EXPECT_EQ(taken("-1", "a:b", 0), 1);
  EXPECT_EQ(taken("99999999999", "a:b", 0), 1);
  EXPECT_EQ(taken("two", "a:b", 0), 1);
}

TEST_F(ServiceManagerTest, WatchesThisProcessOnly) {
  const auto watched = [](const char* interval, const std::string& pid) {
    ::setenv("WATCHDOG_USEC", interval, 1);
    if (!pid.empty()) ::setenv("WATCHDOG_PID", pid.c_str(), 1);
    return ServiceManager::TakeEnvironment().hasWatchdog;
  };
  EXPECT_TRUE(watched("30000000", ""));
  EXPECT_TRUE(watched("1000000", std::to_string(::getpid())));  // short, and said so in the log
  EXPECT_FALSE(watched("30000000", "1"));
  EXPECT_FALSE(watched("0", ""));
  EXPECT_FALSE(watched("30s", ""));
  EXPECT_FALSE(watched("-1", ""));
}

}  // namespace
}  // namespace kveil::daemon
