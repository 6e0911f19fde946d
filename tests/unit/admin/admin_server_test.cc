// The admin socket: who is answered, who is not, and that nobody holds up another.
#include "admin/admin_server.h"

#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>

#include "admin/admin_client.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"

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

struct Text {
  std::optional<std::string> text;
  void Fields(auto& field) { field("text", text); }
};
template <Access access>
struct TextCommand {
  static constexpr Access kAccess = access;
  using Request = Text;
  using Response = Text;
};
struct Large : TextCommand<Access::kLook> {
  static constexpr std::string_view kName = "large";
};
struct Fail : TextCommand<Access::kLook> {
  static constexpr std::string_view kName = "fail";
};
struct Throw : TextCommand<Access::kLook> {
  static constexpr std::string_view kName = "throw";
};
struct Erase : TextCommand<Access::kErase> {
  static constexpr std::string_view kName = "erase";
};
struct Echo {
  static constexpr std::string_view kName = "echo";
  static constexpr Access kAccess = Access::kLook;
  struct Request {
    std::optional<std::string> x;
    void Fields(auto& field) { field("x", x); }
  };
  using Response = Request;
};

class AdminServerTest : public ::testing::Test {
 protected:
  AdminServerTest() {
    std::filesystem::create_directories(folder_);
    std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  }
  ~AdminServerTest() override {
    isBlocked_ = false;
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  AdminServer::Options Options() { return {.socketPath = path_, .timeout = std::chrono::seconds(5)}; }

  void Start(AdminServer::Options options) {
    auto server = AdminServer::Listen(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->Handle<Echo>([](const Echo::Request& request, const Caller&) { return Echo::Response{request.x}; });
    server_->Handle<Large>([](const Text&, const Caller&) { return Text{std::string(8 << 20, 'x')}; });
    server_->Handle<Erase>([this](const Text&, const Caller& caller) {
      ++erasing_;
      while (isBlocked_ && !(endsWhenTold_ && caller.isEnding())) ::usleep(1000);
      uid_ = caller.uid;
      --erasing_;
      return Text();
    });
    server_->Handle<Fail>([](const Text&, const Caller&) { return absl::NotFoundError("no such user"); });
    server_->Handle<Throw>(
        [](const Text&, const Caller&) -> absl::StatusOr<Text> { throw std::runtime_error("oops"); });
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
  std::atomic<bool> isBlocked_{false};  // erases wait
  std::atomic<bool> endsWhenTold_{false};
  std::atomic<uid_t> uid_{0};  // of who asked for the last erase
  std::atomic<size_t> erasing_{0};
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminServerTest, TellsACommandWhoAsksAndThatTheAgentEnds) {
  Start(Options());
  isBlocked_ = endsWhenTold_ = true;
  std::thread asking([this] { EXPECT_TRUE(AdminCall(path_, R"({"command": "erase"})").ok()); });
  while (erasing_ == 0) ::usleep(1000);
  uid_ = 1;
  server_->Stop();
  asking.join();
  EXPECT_EQ(uid_, ::getuid());
}

TEST_F(AdminServerTest, AnswersARequest) {
  Start(Options());
  const auto answer = AdminCall(path_, R"({"command": "echo", "x": "1"})");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, R"({"x":"1"})");
  const auto asked = Ask<Echo>(path_, {"2"});
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_EQ(asked->response.x, "2");
}

TEST_F(AdminServerTest, HandlersErrorsArriveWithTheirCode) {
  Start(Options());
  const absl::Status status = AdminCall(path_, R"({"command": "fail"})").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no such user");
  EXPECT_EQ(AdminCall(path_, R"({"command": "throw"})").status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(AdminCall(path_, R"({"command": "other"})").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(AdminCall(path_, "not json").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AdminCall(path_, "[1]").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(AdminCall(path_, R"({"command": 7})").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AdminServerTest, LongAnswersArriveWhole) {
  Start(Options());
  const auto answer = Ask<Large>(path_, {});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->response.text->size(), size_t{8} << 20);
  UniqueFd socket = Connect();
  const std::string request = "{\"command\": \"large\"}\n";
  ASSERT_EQ(::send(socket.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::vector<char> chunk(1 << 20);
  size_t total = 0;
  for (ssize_t count; (count = ::recv(socket.get(), chunk.data(), chunk.size(), 0)) > 0;) total += count;
  EXPECT_EQ(total, (size_t{8} << 20) + std::string_view(R"({"text":""})").size() + 1);
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

TEST_F(AdminServerTest, ClientWaitsForItsPlaceUntilItsDeadline) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = *UnixAddress(path_);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  const UniqueFd onlyPlace = Connect();
  const auto begun = std::chrono::steady_clock::now();
  const absl::Status status = AdminCall(path_, R"({"command": "echo"})", milliseconds(200)).status();
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(200)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("too busy"));

  // A place becomes free while it waits: then it is the answer that is late.
  std::thread acceptor([&] {
    ::usleep(100'000);
    const UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ::usleep(500'000);
  });
  EXPECT_EQ(AdminCall(path_, R"({"command": "echo"})", milliseconds(400)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  acceptor.join();
}

TEST_F(AdminServerTest, CommandsDoNotWaitForEachOther) {
  isBlocked_ = true;
  Start(Options());
  std::thread eraser([this] { EXPECT_TRUE(Ask<Erase>(path_, {}).ok()); });
  while (erasing_ == 0) ::usleep(1000);
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})", milliseconds(3000)).ok()) << "an erase holds it up";
  EXPECT_EQ(erasing_, 1u);
  isBlocked_ = false;
  eraser.join();
}

TEST_F(AdminServerTest, AsManyOfOneCommandRunAsAreAllowed) {
  isBlocked_ = true;
  AdminServer::Options options = Options();
  options.mostOfOneCommand = 2;
  options.timeout = milliseconds(200);
  Start(options);
  std::vector<std::thread> erasers;
  for (int i = 0; i < 2; ++i) erasers.emplace_back([this] { EXPECT_TRUE(Ask<Erase>(path_, {}).ok()); });
  while (erasing_ < 2) ::usleep(1000);
  EXPECT_TRUE(server_->Health().ok());
  const absl::Status refused = Ask<Erase>(path_, {}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("2 erase commands are running already"));
  EXPECT_THAT(std::string(server_->Health().message()), HasSubstr("an admin command was turned away"));
  EXPECT_TRUE(AdminCall(path_, R"({"command": "echo"})").ok()) << "others have room";
  ::usleep(300'000);  // longer than a request or an answer may take: a command may take longer
  isBlocked_ = false;
  for (std::thread& eraser : erasers) eraser.join();
  // The threads may still be ending when their clients have the answers.
  const auto giveUp = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  absl::Status again;
  do {
    again = Ask<Erase>(path_, {}).status();
  } while (absl::IsResourceExhausted(again) && std::chrono::steady_clock::now() < giveUp);
  EXPECT_TRUE(again.ok()) << again;
}

// Otherwise connecting and leaving, again and again, would start any number.
TEST_F(AdminServerTest, CommandOfAClientThatHasGoneIsCounted) {
  isBlocked_ = true;
  AdminServer::Options options = Options();
  options.mostOfOneCommand = 1;
  Start(options);
  EXPECT_EQ(AdminCall(path_, R"({"command": "erase"})", milliseconds(100)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Ask<Erase>(path_, {}).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(erasing_, 1u);
}

TEST_F(AdminServerTest, SlowClientsDoNotTakeThePlaceOfOneThatWaitsForItsAnswer) {
  isBlocked_ = true;
  AdminServer::Options options = Options();
  options.connectionLimit = 2;
  Start(options);
  std::vector<std::thread> erasers;
  erasers.emplace_back([this] { EXPECT_TRUE(Ask<Erase>(path_, {}).ok()); });
  while (erasing_ < 1) ::usleep(1000);
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 10; ++i) slow.push_back(Connect());
  erasers.emplace_back([this] { EXPECT_TRUE(Ask<Erase>(path_, {}).ok()); });
  while (erasing_ < 2) ::usleep(1000);
  const absl::Status full = AdminCall(path_, R"({"command": "echo"})").status();
  EXPECT_THAT(std::string(full.message()), HasSubstr("2 commands are running already"));
  isBlocked_ = false;
  for (std::thread& eraser : erasers) eraser.join();
}

TEST_F(AdminServerTest, EndWaitsForCommandsAndSendsTheirAnswers) {
  isBlocked_ = true;
  Start(Options());
  std::thread eraser([this] { EXPECT_TRUE(Ask<Erase>(path_, {}).ok()); });
  while (erasing_ == 0) ::usleep(1000);
  std::thread end([this] { server_->Stop(); });
  while (AdminCall(path_, R"({"command": "echo"})").ok()) ::usleep(1000);
  isBlocked_ = false;
  end.join();
  eraser.join();
  EXPECT_EQ(erasing_, 0u);
}

TEST_F(AdminServerTest, WrongFieldsAreNamed) {
  Start(Options());
  const auto error = [this](const std::string& request) {
    const absl::Status status = AdminCall(path_, request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << request;
    return std::string(status.message());
  };
  EXPECT_EQ(error(R"({"command": "echo", "x": 1})"), "echo: \"x\" is not a string");
  EXPECT_EQ(error(R"({"command": "echo", "y": "1"})"), "echo: there is no field \"y\"");
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
