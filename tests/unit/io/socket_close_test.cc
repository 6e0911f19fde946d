// Cancelling and closing while operations are pending: each ends, nothing is written afterwards, the peer is told.
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <string>

#include "harness.h"
#include "io/both.h"

namespace kveil::io {
namespace {

using CloseTest = LoopTest;

Task<void> NoteReadable(Socket& socket, std::string* notes) {
  const absl::Status readable = co_await socket.Readable(Deadline::max());
  notes->append(absl::IsCancelled(readable) ? "r" : "?");
}

Task<void> NoteReceived(Socket& socket, std::string& into, std::string* notes) {
  auto receiving = ReceiveAll(socket, BytesOf(into), Deadline::max());
  const absl::Status received = co_await std::move(receiving);
  notes->append(absl::IsCancelled(received) ? "r" : "?");
}

Task<void> NoteSent(Socket& socket, const std::string& text, std::string* notes) {
  const iovec slice = SliceOf(text);
  const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
  notes->append(absl::IsCancelled(sent) ? "s" : "?");
}

Task<void> CloseAfterTurns(Loop& loop, Socket& socket, int turns, std::string* notes) {
  for (int i = 0; i < turns; ++i) {
    auto turn = OneTurn(loop);
    co_await std::move(turn);
  }
  auto closing = socket.Close();
  co_await std::move(closing);
  notes->append("c");
}

Task<void> CloseWhilePending(Loop& loop, UniqueFd fd, const std::string& text, int turns, std::string* notes) {
  Socket socket(loop, std::move(fd));
  auto operations = Both(NoteReadable(socket, notes), NoteSent(socket, text, notes));
  auto all = Both(std::move(operations), CloseAfterTurns(loop, socket, turns, notes));
  co_await std::move(all);
  EXPECT_EQ(socket.fd(), -1);
}

class CloseAtTurnTest : public LoopTest, public testing::WithParamInterface<int> {};

TEST_P(CloseAtTurnTest, EndsWhatIsPendingBeforeItCloses) {
  Pair pair = TcpPair();
  const std::string text(64 << 20, 'x');  // more than the kernel takes
  std::string notes;
  RunToEnd(CloseWhilePending(*loop_, std::move(pair.near), text, GetParam(), &notes));
  std::sort(notes.begin(), notes.begin() + 2);
  EXPECT_EQ(notes, "rsc");
}

INSTANTIATE_TEST_SUITE_P(Turns, CloseAtTurnTest, testing::Range(0, 6));

Task<void> CloseOnly(Loop& loop, UniqueFd fd, bool abort) {
  Socket socket(loop, std::move(fd));
  if (abort) socket.AbortOnClose();
  std::string notes;
  auto both = Both(NoteReadable(socket, &notes), CloseAfterTurns(loop, socket, 2, &notes));
  co_await std::move(both);
  auto again = socket.Close();
  co_await std::move(again);
}

// What a blocking peer reads, 0 or -errno.
int ReadByPeer(const UniqueFd& fd) {
  const timeval patience{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  char byte = 0;
  const ssize_t size = ::read(fd.get(), &byte, 1);
  return size < 0 ? -errno : static_cast<int>(size);
}

TEST_F(CloseTest, TheOtherSideSeesTheEndOfTheStreamAlthoughAReadWasPending) {
  Pair pair = TcpPair();
  RunToEnd(CloseOnly(*loop_, std::move(pair.near), false));
  EXPECT_EQ(ReadByPeer(pair.far), 0);
}

TEST_F(CloseTest, TheOtherSideSeesAResetAfterAbort) {
  Pair pair = TcpPair();
  RunToEnd(CloseOnly(*loop_, std::move(pair.near), true));
  EXPECT_EQ(ReadByPeer(pair.far), -ECONNRESET);
}

TEST_F(CloseTest, TheOtherSideSeesTheEndAlthoughSomebodyElseHoldsTheDescriptorToo) {
  Pair pair = TcpPair();
  const UniqueFd held(::dup(pair.near.get()));
  RunToEnd(CloseOnly(*loop_, std::move(pair.near), false));
  EXPECT_EQ(ReadByPeer(pair.far), 0);
}

Task<void> SendAndClose(Loop& loop, UniqueFd fd, const std::string& text) {
  Socket socket(loop, std::move(fd));
  const iovec slice = SliceOf(text);
  const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
  EXPECT_TRUE(sent.ok()) << sent;
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(CloseTest, WhatWasSentBeforeArrivesBeforeTheEnd) {
  Pair pair = TcpPair();
  const std::string text(500'000, 'y');
  RunToEnd(SendAndClose(*loop_, std::move(pair.near), text));
  std::string received;
  char buffer[65536];
  for (ssize_t size; (size = ::read(pair.far.get(), buffer, sizeof(buffer))) > 0;) {
    received.append(buffer, static_cast<size_t>(size));
  }
  EXPECT_TRUE(received == text);
}

Task<void> CancelAndWrite(Loop& loop, Socket& socket, const UniqueFd& far) {
  for (int i = 0; i < 3; ++i) {
    auto turn = OneTurn(loop);
    co_await std::move(turn);
  }
  auto closing = socket.Close();
  co_await std::move(closing);
  EXPECT_NE(::send(far.get(), "defg", 4, MSG_NOSIGNAL), 0);
}

// A receive got a part, is cancelled, and the peer sends more: that must not be written to the buffer any more.
Task<void> CancelThenPeerSends(Loop& loop, UniqueFd fd, const UniqueFd& far, std::string* into, std::string* notes) {
  Socket socket(loop, std::move(fd));
  auto both = Both(NoteReceived(socket, *into, notes), CancelAndWrite(loop, socket, far));
  co_await std::move(both);
}

TEST_F(CloseTest, ABufferIsLeftAloneOnceItsReceiveHasEnded) {
  Pair pair = TcpPair();
  ASSERT_EQ(::write(pair.far.get(), "abc", 3), 3);
  std::string into(1000, '-');
  std::string notes;
  RunToEnd(CancelThenPeerSends(*loop_, std::move(pair.near), pair.far, &into, &notes));
  EXPECT_EQ(notes, "r");
  EXPECT_EQ(into, "abc" + std::string(997, '-'));
}

struct AfterCancel {
  absl::Status readable;
  int received = 0;
  absl::Status sent;
  absl::Status connected;
};

Task<void> UseCancelled(Loop& loop, UniqueFd fd, AfterCancel* after) {
  Socket socket(loop, std::move(fd));
  socket.Cancel();
  std::string buffer(10, '\0');
  const iovec slice = SliceOf("x");
  after->readable = co_await socket.Readable(Deadline::max());
  after->received = co_await socket.Recv(BytesOf(buffer));
  after->sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
  auto connecting = socket.Connect(SocketAddress::V4(htonl(INADDR_LOOPBACK), 1), Deadline::max());
  after->connected = co_await std::move(connecting);
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(CloseTest, WhatIsBegunAfterCancelEndsAtOnce) {
  Pair pair = TcpPair();
  ASSERT_EQ(::write(pair.far.get(), "0123456789", 10), 10);
  AfterCancel after;
  RunToEnd(UseCancelled(*loop_, std::move(pair.near), &after));
  EXPECT_TRUE(absl::IsCancelled(after.readable)) << after.readable;
  EXPECT_EQ(after.received, -ECANCELED);
  EXPECT_TRUE(absl::IsCancelled(after.sent)) << after.sent;
  EXPECT_TRUE(absl::IsCancelled(after.connected)) << after.connected;
}

TEST_F(CloseTest, ASocketThatWasNeverUsedNeedsNoClose) {
  Pair pair = TcpPair();
  { const Socket socket(*loop_, std::move(pair.near)); }
  EXPECT_EQ(ReadByPeer(pair.far), 0);
}

// Sockets come and go while data flows: sanitizers see what outlives what.
Task<void> Churn(Loop& loop, int rounds, int seed) {
  for (int i = 0; i < rounds; ++i) {
    Pair pair = TcpPair();
    const std::string text(static_cast<size_t>(1 + (i * 7919 + seed) % 300'000), 'z');
    std::string into(100'000, '\0');
    std::string notes;
    Socket near(loop, std::move(pair.near));
    Socket far(loop, std::move(pair.far));
    auto operations = Both(NoteReceived(far, into, &notes), NoteSent(near, text, &notes));
    auto ends = Both(CloseAfterTurns(loop, near, (i + seed) % 4, &notes), CloseAfterTurns(loop, far, i % 5, &notes));
    auto all = Both(std::move(operations), std::move(ends));
    co_await std::move(all);
  }
}

TEST_F(CloseTest, ClosingAtAnyMomentOfATransferIsClean) {
  RunToEnd(Churn(*loop_, 100, 0), Churn(*loop_, 100, 1), Churn(*loop_, 100, 2), Churn(*loop_, 100, 3));
}

}  // namespace
}  // namespace kveil::io
