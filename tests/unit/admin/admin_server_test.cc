// The admin socket: who is answered, who is not, and that nobody holds up another.
#include "admin/admin_server.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "admin/unix_socket.h"
#include "base/unique_fd.h"

namespace kveil::admin {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// A group of this machine, any but root's; empty where there is none.
std::string SomeGroup(size_t number) {
  std::vector<std::string> names;
  ::setgrent();
  while (const group* const entry = ::getgrent()) {
    if (entry->gr_gid != 0) names.emplace_back(entry->gr_name);
  }
  ::endgrent();
  return number < names.size() ? names[number] : "";
}

constexpr uid_t kSomeUser = 12345;
constexpr gid_t kSomeGroup = 54321;

class AdminServerTest : public ::testing::Test {
 protected:
  AdminServerTest() {
    std::filesystem::create_directories(folder_);
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  }
  ~AdminServerTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  AdminServer::Options Options() { return {.socketPath = path_, .timeout = std::chrono::seconds(5)}; }

  void Start(AdminServer::Options options) {
    auto server = AdminServer::Listen(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->Handle("echo", [](std::string_view request) { return std::string(request); });
    server_->Handle("large", [](std::string_view) { return "\"" + std::string(8 << 20, 'x') + "\""; });
    server_->Handle(
        "erase", [](std::string_view request) { return std::string(request); }, AdminAccess::kErase);
    server_->Handle("fail", [](std::string_view) { return absl::NotFoundError("no such user"); });
    server_->Handle("throw", [](std::string_view) -> absl::StatusOr<std::string> { throw std::runtime_error("oops"); });
    server_->Start();
  }

  UniqueFd Connect() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = *UnixAddress(path_);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return socket;
  }

  // The code of AdminCall made by a process with these credentials.
  absl::StatusCode CallAs(uid_t user, gid_t group, const std::vector<gid_t>& supplementary,
                          const std::string& request = R"({"command": "echo"})") {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setgroups(supplementary.size(), supplementary.data()) != 0 || ::setresgid(group, group, group) != 0 ||
          ::setresuid(user, user, user) != 0) {
        ::_exit(100);  // these tests are for root, like everything that scripts/test runs
      }
      ::_exit(static_cast<int>(AdminCall(path_, request).status().code()));
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_NE(WEXITSTATUS(status), 100) << "not allowed to change credentials; run as root";
    return static_cast<absl::StatusCode>(WEXITSTATUS(status));
  }

  std::string folder_ = ::testing::TempDir() + "admin-" + std::to_string(::getpid());
  std::string path_ = folder_ + "/admin.sock";
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, AnswersARequest) {
  Start(Options());
  const auto answer = AdminCall(path_, R"({"command": "echo", "x": 1})");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, R"({"command": "echo", "x": 1})");
}

TEST_F(AdminServerTest, HandlersErrorsArriveWithTheirCode) {
  Start(Options());
  const absl::Status status = AdminCall(path_, R"({"command": "fail"})").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no such user");
  EXPECT_EQ(AdminCall(path_, R"({"command": "throw"})").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AdminCall(path_, R"({"command": "other"})").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(AdminCall(path_, "not json").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AdminCall(path_, "[1]").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AdminCall(path_, R"({"command": 7})").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AdminServerTest, LongAnswersArriveWhole) {
  Start(Options());
  const auto answer = AdminCall(path_, R"({"command": "large"})");
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal) << "a JSON string is no object";
  UniqueFd socket = Connect();
  const std::string request = "{\"command\": \"large\"}\n";
  ASSERT_EQ(::send(socket.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::vector<char> chunk(1 << 20);
  size_t total = 0;
  for (ssize_t count; (count = ::recv(socket.get(), chunk.data(), chunk.size(), 0)) > 0;) total += count;
  EXPECT_EQ(total, (size_t{8} << 20) + 3);
}

TEST_F(AdminServerTest, OnlyRootAndTheGroupMayConnect) {
  AdminServer::Options options = Options();
  options.group = SomeGroup(0);
  Start(options);
  const gid_t group = ::getgrnam(SomeGroup(0).c_str())->gr_gid;
  struct stat facts = {};
  ASSERT_EQ(::stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0660u);
  EXPECT_EQ(facts.st_gid, group);
  EXPECT_EQ(CallAs(0, 0, {}), absl::StatusCode::kOk);
  EXPECT_EQ(CallAs(kSomeUser, group, {}), absl::StatusCode::kOk) << "by its own group";
  EXPECT_EQ(CallAs(kSomeUser, kSomeGroup, {kSomeGroup, group}), absl::StatusCode::kOk) << "by a supplementary group";
  EXPECT_EQ(CallAs(kSomeUser, kSomeGroup, {kSomeGroup}), absl::StatusCode::kPermissionDenied);
}

TEST_F(AdminServerTest, ThePeerIsCheckedEvenWhenTheFileModeWouldLetItIn) {
  AdminServer::Options options = Options();
  options.group = SomeGroup(0);
  Start(options);
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  const gid_t group = ::getgrnam(SomeGroup(0).c_str())->gr_gid;
  std::vector<gid_t> many(100);  // more than fit the first look
  for (size_t i = 0; i < many.size(); ++i) many[i] = 60000 + i;
  EXPECT_EQ(CallAs(kSomeUser, kSomeGroup, many), absl::StatusCode::kPermissionDenied);
  many.back() = group;
  EXPECT_EQ(CallAs(kSomeUser, kSomeGroup, many), absl::StatusCode::kOk);
}

TEST_F(AdminServerTest, WithoutAGroupOnlyRootIsAnswered) {
  Start(Options());
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);
  EXPECT_EQ(CallAs(kSomeUser, 0, {0}), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(CallAs(0, 0, {}), absl::StatusCode::kOk);
}

TEST_F(AdminServerTest, WhoMayLookMayNotErase) {
  const std::string look = SomeGroup(0);
  const std::string erase = SomeGroup(1);
  const gid_t lookers = ::getgrnam(look.c_str())->gr_gid;
  const gid_t erasers = ::getgrnam(erase.c_str())->gr_gid;
  const std::string request = R"({"command": "erase"})";
  struct Case {
    std::string group, eraseGroup;
    absl::StatusCode lookerLooks, lookerErases, eraserLooks, eraserErases;
  };
  constexpr auto kOk = absl::StatusCode::kOk;
  constexpr auto kNo = absl::StatusCode::kPermissionDenied;
  for (const Case& expected : {Case{look, "", kOk, kNo, kNo, kNo}, Case{"", erase, kNo, kNo, kOk, kOk},
                               Case{look, erase, kOk, kNo, kOk, kOk}, Case{look, look, kOk, kOk, kNo, kNo}}) {
    SCOPED_TRACE(expected.group + " looks, " + expected.eraseGroup + " erases");
    AdminServer::Options options = Options();
    options.group = expected.group;
    options.eraseGroup = expected.eraseGroup;
    server_.reset();
    Start(options);
    EXPECT_EQ(CallAs(kSomeUser, lookers, {}), expected.lookerLooks);
    EXPECT_EQ(CallAs(kSomeUser, lookers, {}, request), expected.lookerErases);
    EXPECT_EQ(CallAs(kSomeUser, erasers, {}), expected.eraserLooks);
    EXPECT_EQ(CallAs(kSomeUser, erasers, {}, request), expected.eraserErases);
    EXPECT_EQ(CallAs(kSomeUser, kSomeGroup, {}), kNo);
    EXPECT_EQ(CallAs(0, 0, {}, request), kOk);
  }
}

TEST_F(AdminServerTest, AnyNumberOfSlowClientsHoldsNobodyUp) {
  Start(Options());
  std::vector<UniqueFd> slow;
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 100; ++i) {
    slow.push_back(Connect());
    ASSERT_EQ(::send(slow.back().get(), "{", 1, 0), 1);
  }
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(4)) << "before any has timed out";
}

TEST_F(AdminServerTest, SilentClientsHoldNobodyUpAndAreClosed) {
  AdminServer::Options options = Options();
  options.timeout = milliseconds(300);
  options.connectionLimit = 3;
  Start(options);
  const UniqueFd silent = Connect();
  const UniqueFd half = Connect();
  ASSERT_EQ(::send(half.get(), "{", 1, 0), 1);
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
  // With every place taken the next one gets that of the oldest.
  const UniqueFd third = Connect();
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
  char byte = 0;
  EXPECT_EQ(::recv(silent.get(), &byte, 1, 0), 0);
  EXPECT_LE(::recv(half.get(), &byte, 1, 0), 0);
}

TEST_F(AdminServerTest, StrangersTakeNobodysPlace) {
  AdminServer::Options options = Options();
  options.connectionLimit = 1;
  Start(options);
  ASSERT_EQ(::chmod(path_.c_str(), 0666), 0);  // as with two groups
  const UniqueFd waiting = Connect();
  ASSERT_EQ(::send(waiting.get(), "{\"command\":", 11, 0), 11);
  EXPECT_EQ(CallAs(kSomeUser, kSomeGroup, {}), absl::StatusCode::kPermissionDenied);
  const std::string rest = " \"echo\"}\n";
  ASSERT_EQ(::send(waiting.get(), rest.data(), rest.size(), MSG_NOSIGNAL), static_cast<ssize_t>(rest.size()));
  char byte = 0;
  EXPECT_EQ(::recv(waiting.get(), &byte, 1, 0), 1);
}

TEST_F(AdminServerTest, ClientThatDoesNotReadHoldsNobodyUp) {
  Start(Options());
  const UniqueFd deaf = Connect();
  const std::string request = "{\"command\": \"large\"}\n";
  ASSERT_EQ(::send(deaf.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  char byte = 0;
  ASSERT_EQ(::recv(deaf.get(), &byte, 1, MSG_PEEK), 1);  // its answer has begun
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
}

TEST_F(AdminServerTest, RequestsAreBounded) {
  AdminServer::Options options = Options();
  options.requestLimit = 1000;
  Start(options);
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo", "x": ")" + std::string(900, 'x') + "\"}").ok());
  EXPECT_EQ(AdminCall(path_, R"({"command": "echo", "x": ")" + std::string(1000, 'x') + "\"}").status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(AdminCall(path_, std::string(4 << 20, 'x')).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(AdminServerTest, SecondAgentDoesNotTakeALiveSocket) {
  Start(Options());
  EXPECT_EQ(AdminServer::Listen(Options()).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
}

TEST_F(AdminServerTest, SocketOfALiveProcessWithoutTheLockIsLeftAlone) {
  UniqueFd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = *UnixAddress(path_);
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  EXPECT_EQ(AdminServer::Listen(Options()).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(AdminServerTest, StaleSocketIsReplaced) {
  {
    UniqueFd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = *UnixAddress(path_);
    ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  Start(Options());
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
}

TEST_F(AdminServerTest, WhatIsNoSocketIsLeftAlone) {
  std::ofstream(path_) << "precious";
  EXPECT_EQ(AdminServer::Listen(Options()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(AdminServerTest, UnknownGroupAndLongPathAreErrors) {
  AdminServer::Options options = Options();
  options.group = "no-such-group-here";
  EXPECT_EQ(AdminServer::Listen(options).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(AdminServer::Listen({.socketPath = "/" + std::string(200, 'x')}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(AdminServerTest, SocketGoesWithItsServer) {
  Start(Options());
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
  const absl::Status status = AdminCall(path_, "{}").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no agent is running"));
  Start(Options());
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok());
}

TEST_F(AdminServerTest, AgentThatDoesNotAnswerIsGivenUp) {
  UniqueFd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = *UnixAddress(path_);
  ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  EXPECT_EQ(AdminCall(path_, "{}", milliseconds(50)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace kveil::admin
