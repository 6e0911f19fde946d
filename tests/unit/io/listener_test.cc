// Listeners: bursts, running out of descriptors, cancelling, closing.
#include "io/listener.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <string>
#include <vector>

#include "harness.h"
#include "io/both.h"

namespace kveil::io {
namespace {

using ListenerTest = LoopTest;

UniqueFd ConnectBlocking(const SocketAddress& address) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(fd.get(), address.get(), address.size()), 0) << std::strerror(errno);
  return fd;
}

Task<void> AcceptMany(Loop& loop, UniqueFd fd, const SocketAddress& address, int rounds, int burst, int* accepted) {
  Listener listener(loop, std::move(fd));
  for (int round = 0; round < rounds; ++round) {
    std::vector<UniqueFd> clients;
    for (int i = 0; i < burst; ++i) clients.push_back(ConnectBlocking(address));
    for (int i = 0; i < burst; ++i) {
      auto accepting = listener.Accept();
      const absl::StatusOr<UniqueFd> connection = co_await std::move(accepting);
      EXPECT_TRUE(connection.ok()) << connection.status();
      if (!connection.ok()) continue;
      EXPECT_NE(::fcntl(connection->get(), F_GETFD) & FD_CLOEXEC, 0);
      ++*accepted;
    }
  }
  auto closing = listener.Close();
  co_await std::move(closing);
}

TEST_F(ListenerTest, AcceptsBursts) {
  SocketAddress address;
  UniqueFd fd = Listen(200, &address);
  ASSERT_EQ(::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK), 0);
  int accepted = 0;
  RunToEnd(AcceptMany(*loop_, std::move(fd), address, 3, 100, &accepted));
  EXPECT_EQ(accepted, 300);
}

Task<void> AcceptOnce(Listener& listener, absl::Status* status) {
  auto accepting = listener.Accept();
  const absl::StatusOr<UniqueFd> connection = co_await std::move(accepting);
  *status = connection.status();
}

Task<void> CloseListenerAfterTurns(Loop& loop, Listener& listener, int turns) {
  for (int i = 0; i < turns; ++i) {
    auto turn = OneTurn(loop);
    co_await std::move(turn);
  }
  auto closing = listener.Close();
  co_await std::move(closing);
}

Task<void> CloseWhileAccepting(Loop& loop, UniqueFd fd, int turns, absl::Status* status, absl::Status* later) {
  Listener listener(loop, std::move(fd));
  auto both = Both(AcceptOnce(listener, status), CloseListenerAfterTurns(loop, listener, turns));
  co_await std::move(both);
  auto again = AcceptOnce(listener, later);
  co_await std::move(again);
}

TEST_F(ListenerTest, ClosingEndsAnAcceptThatIsPending) {
  for (const int turns : {0, 1, 3}) {
    SocketAddress address;
    UniqueFd fd = Listen(10, &address);
    absl::Status status;
    absl::Status later;
    auto loop = Loop::Create(SmallOptions());
    (*loop)->Spawn(CloseWhileAccepting(**loop, std::move(fd), turns, &status, &later));
    (*loop)->Stop();
    (*loop)->Run();
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
    EXPECT_TRUE(absl::IsCancelled(later)) << later;
    const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_NE(::connect(client.get(), address.get(), address.size()), 0) << "somebody still listens";
  }
}

Task<void> AcceptFirstAndClose(Loop& loop, UniqueFd fd, absl::Status* status) {
  Listener listener(loop, std::move(fd));
  auto accepting = AcceptOnce(listener, status);
  co_await std::move(accepting);
  auto closing = listener.Close();
  co_await std::move(closing);
}

// The kernel hands out connections ahead of those who ask for them: none may stay open unserved.
TEST_F(ListenerTest, ConnectionsThatNobodyTookAreEndedByClose) {
  SocketAddress address;
  UniqueFd fd = Listen(10, &address);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(ConnectBlocking(address));
  absl::Status status;
  RunToEnd(AcceptFirstAndClose(*loop_, std::move(fd), &status));
  EXPECT_TRUE(status.ok()) << status;
  for (const UniqueFd& client : clients) {
    const timeval patience{10, 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    char byte = 0;
    const ssize_t size = ::read(client.get(), &byte, 1);
    EXPECT_TRUE(size == 0 || errno == ECONNRESET) << size << " " << std::strerror(errno);
  }
}

// Holds every descriptor that this process may still have.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit few = before_;
    few.rlim_cur = static_cast<rlim_t>(UniqueFd(::dup(0)).get() + 20);
    ::setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = ::dup(0)) >= 0;) held_.emplace_back(fd);
  }
  ~NoDescriptors() {
    held_.clear();
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_{};
  std::vector<UniqueFd> held_;
};

Task<void> AcceptWithoutDescriptors(Loop& loop, UniqueFd fd, absl::Status* first, absl::Status* second,
                                    std::chrono::steady_clock::duration* pause) {
  Listener listener(loop, std::move(fd));
  auto none = std::make_unique<NoDescriptors>();
  auto firstAccept = AcceptOnce(listener, first);
  co_await std::move(firstAccept);
  none.reset();
  const auto asked = std::chrono::steady_clock::now();
  auto secondAccept = AcceptOnce(listener, second);
  co_await std::move(secondAccept);
  *pause = std::chrono::steady_clock::now() - asked;
  auto closing = listener.Close();
  co_await std::move(closing);
}

TEST_F(ListenerTest, GoesOnAfterDescriptorsHadRunOutButNotAtOnce) {
  SocketAddress address;
  UniqueFd fd = Listen(10, &address);
  const UniqueFd client = ConnectBlocking(address);
  absl::Status first;
  absl::Status second = absl::UnknownError("");
  std::chrono::steady_clock::duration pause{};
  RunToEnd(AcceptWithoutDescriptors(*loop_, std::move(fd), &first, &second, &pause));
  EXPECT_TRUE(absl::IsResourceExhausted(first)) << first;
  EXPECT_TRUE(second.ok()) << second;
  EXPECT_GE(pause, std::chrono::milliseconds(50));
}

}  // namespace
}  // namespace kveil::io
