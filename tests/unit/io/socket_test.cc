// Sockets: what arrives, how a connection ends, and deadlines.
#include "io/socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "harness.h"
#include "io/both.h"

namespace kveil::io {
namespace {

using SocketTest = LoopTest;

// Sends the text in slices of the given size, with empty ones between them, and then the end of the stream.
Task<void> SendInSlices(Socket& socket, const std::string& text, size_t sliceSize, absl::Status* sent) {
  std::vector<iovec> slices;
  for (size_t at = 0; at < text.size(); at += sliceSize) {
    slices.push_back(SliceOf(std::string_view(text).substr(at, sliceSize)));
    slices.push_back(iovec{nullptr, 0});
  }
  *sent = co_await socket.SendAll(slices, Deadline::max());
  socket.ShutdownWrite();
}

// The way the proxy reads: wait without a buffer, receive what is there, and again while there is more.
Task<void> ReceiveToEnd(Socket& socket, std::string* received) {
  std::string buffer(64 << 10, '\0');
  for (;;) {
    if (!socket.more()) {
      const absl::Status readable = co_await socket.Readable(Deadline::max());
      if (!readable.ok()) co_return;
    }
    const int size = co_await socket.Recv(BytesOf(buffer));
    if (size == -EAGAIN) continue;
    if (size <= 0) co_return;
    received->append(buffer, 0, static_cast<size_t>(size));
  }
}

Task<void> SendAndReceive(Loop& loop, Pair pair, const std::string& text, size_t sliceSize, std::string* received,
                          absl::Status* sent) {
  Socket near(loop, std::move(pair.near));
  Socket far(loop, std::move(pair.far));
  auto both = Both(SendInSlices(near, text, sliceSize, sent), ReceiveToEnd(far, received));
  co_await std::move(both);
  auto closeNear = near.Close();
  co_await std::move(closeNear);
  auto closeFar = far.Close();
  co_await std::move(closeFar);
}

TEST_F(SocketTest, SendsMoreSlicesThanTheKernelTakesAtOnce) {
  const std::string text = RandomText(50'000, 1);
  std::string received;
  absl::Status sent;
  RunToEnd(SendAndReceive(*loop_, TcpPair(), text, 10, &received, &sent));
  EXPECT_TRUE(sent.ok()) << sent;
  EXPECT_TRUE(received == text);
}

TEST_F(SocketTest, GoesOnAfterShortSends) {
  const std::string text = RandomText(32 << 20, 2);
  std::string received;
  absl::Status sent;
  RunToEnd(SendAndReceive(*loop_, TcpPair(), text, 3 << 20, &received, &sent));
  EXPECT_TRUE(sent.ok()) << sent;
  EXPECT_TRUE(received == text);
}

TEST_F(SocketTest, WaitsAlsoOnADescriptorThatWasNonBlocking) {
  Pair pair = TcpPair();
  for (const UniqueFd* fd : {&pair.near, &pair.far}) {
    ASSERT_EQ(::fcntl(fd->get(), F_SETFL, ::fcntl(fd->get(), F_GETFL) | O_NONBLOCK), 0);
  }
  const std::string text = RandomText(16 << 20, 3);
  std::string received;
  absl::Status sent;
  RunToEnd(SendAndReceive(*loop_, std::move(pair), text, 4 << 20, &received, &sent));
  EXPECT_TRUE(sent.ok()) << sent;
  EXPECT_TRUE(received == text);
}

Task<void> SendNothing(Loop& loop, UniqueFd fd, absl::Status* sent) {
  Socket socket(loop, std::move(fd));
  const iovec empty{nullptr, 0};
  *sent = co_await socket.SendAll(absl::MakeConstSpan(&empty, 1), Deadline::max());
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, SendingNothingIsDoneAtOnce) {
  Pair pair = TcpPair();
  absl::Status sent = absl::UnknownError("");
  RunToEnd(SendNothing(*loop_, std::move(pair.near), &sent));
  EXPECT_TRUE(sent.ok()) << sent;
}

// Asks with the end of its stream, and answers only what it got whole.
Task<void> AskAndEnd(Socket& socket, std::string* answer) {
  const iovec question = SliceOf("question");
  const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&question, 1), Deadline::max());
  EXPECT_TRUE(sent.ok()) << sent;
  socket.ShutdownWrite();
  auto receiving = ReceiveToEnd(socket, answer);
  co_await std::move(receiving);
}

Task<void> AnswerAfterEnd(Socket& socket, std::string* question) {
  auto receiving = ReceiveToEnd(socket, question);
  co_await std::move(receiving);
  const iovec answer = SliceOf("answer");
  const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&answer, 1), Deadline::max());
  EXPECT_TRUE(sent.ok()) << sent;
  socket.ShutdownWrite();
}

Task<void> AskAndAnswer(Loop& loop, Pair pair, std::string* question, std::string* answer) {
  Socket near(loop, std::move(pair.near));
  Socket far(loop, std::move(pair.far));
  auto both = Both(AskAndEnd(near, answer), AnswerAfterEnd(far, question));
  co_await std::move(both);
  auto closeBoth = Both(CloseSocket(near), CloseSocket(far));
  co_await std::move(closeBoth);
}

TEST_F(SocketTest, AHalfClosedConnectionStillCarriesTheOtherDirection) {
  std::string question;
  std::string answer;
  RunToEnd(AskAndAnswer(*loop_, TcpPair(), &question, &answer));
  EXPECT_EQ(question, "question");
  EXPECT_EQ(answer, "answer");
}

struct Received {
  absl::Status readable = absl::UnknownError("not run");
  int result = 1 << 30;
  bool more = false;
};

Task<void> ReceiveOnce(Loop& loop, UniqueFd fd, size_t size, std::chrono::milliseconds patience, Received* received) {
  Socket socket(loop, std::move(fd));
  received->readable = co_await socket.Readable(In(patience));
  std::string buffer(size, '\0');
  received->result = co_await socket.Recv(BytesOf(buffer));
  received->more = socket.more();
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, SaysWhetherMoreIsThere) {
  for (const bool more : {true, false}) {
    Pair pair = TcpPair();
    ASSERT_EQ(::write(pair.far.get(), "12345678", 8), 8);
    Received received;
    auto loop = Loop::Create(SmallOptions());
    (*loop)->Spawn(ReceiveOnce(**loop, std::move(pair.near), more ? 5 : 20, std::chrono::seconds(10), &received));
    (*loop)->Stop();
    (*loop)->Run();
    EXPECT_EQ(received.result, more ? 5 : 8);
    EXPECT_EQ(received.more, more);
  }
}

TEST_F(SocketTest, ReceivesTheEndOfTheStream) {
  Pair pair = TcpPair();
  pair.far.Reset();
  Received received;
  RunToEnd(ReceiveOnce(*loop_, std::move(pair.near), 10, std::chrono::seconds(10), &received));
  EXPECT_TRUE(received.readable.ok()) << received.readable;
  EXPECT_EQ(received.result, 0);
}

TEST_F(SocketTest, ReceivesAReset) {
  Pair pair = TcpPair();
  const linger reset{1, 0};
  ASSERT_EQ(::setsockopt(pair.far.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
  pair.far.Reset();
  Received received;
  RunToEnd(ReceiveOnce(*loop_, std::move(pair.near), 10, std::chrono::seconds(10), &received));
  EXPECT_TRUE(received.readable.ok()) << received.readable;
  EXPECT_EQ(received.result, -ECONNRESET);
}

TEST_F(SocketTest, ReceivingWhenNothingIsThereDoesNotWait) {
  Pair pair = TcpPair();
  Received received;
  RunToEnd(ReceiveOnce(*loop_, std::move(pair.near), 10, std::chrono::milliseconds(5), &received));
  EXPECT_TRUE(absl::IsDeadlineExceeded(received.readable)) << received.readable;
  EXPECT_EQ(received.result, -EAGAIN);
}

TEST_F(SocketTest, ReceivingIntoNothingIsNotTheEndOfTheStream) {
  Pair pair = TcpPair();
  ASSERT_EQ(::write(pair.far.get(), "1", 1), 1);
  Received received;
  RunToEnd(ReceiveOnce(*loop_, std::move(pair.near), 0, std::chrono::seconds(10), &received));
  EXPECT_EQ(received.result, -ENOBUFS);
}

Task<void> SendTwice(Loop& loop, UniqueFd fd, absl::Status* second) {
  Socket socket(loop, std::move(fd));
  const iovec slice = SliceOf("x");
  for (int i = 0; i < 100 && second->ok(); ++i) {
    *second = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
    co_await loop.Sleep(std::chrono::milliseconds(1));
  }
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, SendingToAPeerThatHasGoneFailsWithoutASignal) {
  Pair pair = TcpPair();
  pair.far.Reset();
  absl::Status second;
  RunToEnd(SendTwice(*loop_, std::move(pair.near), &second));
  EXPECT_TRUE(absl::IsUnavailable(second)) << second;
}

// Connecting.

Task<void> ConnectTo(Loop& loop, SocketAddress address, Deadline deadline, absl::Status* connected) {
  Socket socket(loop, UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)));
  auto connecting = socket.Connect(address, deadline);
  *connected = co_await std::move(connecting);
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, Connects) {
  SocketAddress address;
  const UniqueFd listener = Listen(5, &address);
  absl::Status connected = absl::UnknownError("");
  RunToEnd(ConnectTo(*loop_, address, In(std::chrono::seconds(10)), &connected));
  EXPECT_TRUE(connected.ok()) << connected;
}

TEST_F(SocketTest, ARefusedConnectSaysSo) {
  SocketAddress address;
  { const UniqueFd closed = Listen(5, &address); }
  absl::Status connected;
  RunToEnd(ConnectTo(*loop_, address, In(std::chrono::seconds(10)), &connected));
  EXPECT_EQ(connected, absl::UnavailableError("Connection refused"));
}

// A listener that drops what comes, because its queue is full.
class FullListener {
 public:
  FullListener() : listener_(Listen(0, &address_)) {
    for (int i = 0; i < 3; ++i) {
      waiting_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      ::connect(waiting_.back().get(), address_.get(), address_.size());
    }
  }
  SocketAddress address() const { return address_; }

 private:
  SocketAddress address_;
  UniqueFd listener_;
  std::vector<UniqueFd> waiting_;
};

TEST_F(SocketTest, AConnectThatNobodyAnswersEndsAtItsDeadline) {
  const FullListener full;
  absl::Status connected;
  RunToEnd(ConnectTo(*loop_, full.address(), In(std::chrono::milliseconds(50)), &connected));
  EXPECT_TRUE(absl::IsDeadlineExceeded(connected)) << connected;
}

Task<void> ConnectAnd(Socket& socket, SocketAddress address, absl::Status* connected) {
  auto connecting = socket.Connect(address, Deadline::max());
  *connected = co_await std::move(connecting);
}

Task<void> CancelAfterTurns(Loop& loop, Socket& socket, int turns) {
  for (int i = 0; i < turns; ++i) {
    auto turn = OneTurn(loop);
    co_await std::move(turn);
  }
  socket.Cancel();
}

Task<void> ConnectAndCancel(Loop& loop, SocketAddress address, int turns, absl::Status* connected) {
  Socket socket(loop, UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
  auto both = Both(ConnectAnd(socket, address, connected), CancelAfterTurns(loop, socket, turns));
  co_await std::move(both);
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, AConnectCanBeCancelledBeforeAndAfterItWasSubmitted) {
  const FullListener full;
  absl::Status before;
  absl::Status after;
  RunToEnd(ConnectAndCancel(*loop_, full.address(), 0, &before), ConnectAndCancel(*loop_, full.address(), 3, &after));
  EXPECT_TRUE(absl::IsCancelled(before)) << before;
  EXPECT_TRUE(absl::IsCancelled(after)) << after;
}

// Whole frames.

Task<void> SendLater(Loop& loop, Socket& socket, const std::string& text, size_t pieceSize, bool end) {
  for (size_t at = 0; at < text.size(); at += pieceSize) {
    const iovec slice = SliceOf(std::string_view(text).substr(at, pieceSize));
    const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
    EXPECT_TRUE(sent.ok()) << sent;
    auto turn = OneTurn(loop);
    co_await std::move(turn);
  }
  if (end) socket.ShutdownWrite();
}

Task<void> ReceiveExactly(Socket& socket, std::string* into, Deadline deadline, absl::Status* received) {
  auto receiving = ReceiveAll(socket, BytesOf(*into), deadline);
  *received = co_await std::move(receiving);
}

struct ExactCase {
  std::string text;
  size_t pieceSize = 1;
  bool end = false;
  std::chrono::milliseconds patience{10'000};
  std::string into;
  absl::Status received = absl::UnknownError("");
};

Task<void> RunExactCase(Loop& loop, Pair pair, ExactCase* run) {
  Socket near(loop, std::move(pair.near));
  Socket far(loop, std::move(pair.far));
  auto both = Both(SendLater(loop, near, run->text, run->pieceSize, run->end),
                   ReceiveExactly(far, &run->into, In(run->patience), &run->received));
  co_await std::move(both);
  auto closeBoth = Both(CloseSocket(near), CloseSocket(far));
  co_await std::move(closeBoth);
}

TEST_F(SocketTest, ReceivesExactlyWhatWasAskedForFromManyPieces) {
  ExactCase run;
  run.text = RandomText(3'000'000, 4);
  run.pieceSize = 70'001;
  run.into.resize(2'999'999);
  RunToEnd(RunExactCase(*loop_, TcpPair(), &run));
  EXPECT_TRUE(run.received.ok()) << run.received;
  EXPECT_TRUE(run.into == run.text.substr(0, 2'999'999));
}

TEST_F(SocketTest, SaysWhenTheStreamEndsInTheMiddle) {
  ExactCase run;
  run.text = "12345";
  run.end = true;
  run.into.resize(6);
  RunToEnd(RunExactCase(*loop_, TcpPair(), &run));
  EXPECT_TRUE(absl::IsOutOfRange(run.received)) << run.received;
}

TEST_F(SocketTest, AFrameThatStopsInTheMiddleEndsAtTheDeadline) {
  ExactCase run;
  run.text = "12345";
  run.into.resize(6);
  run.patience = std::chrono::milliseconds(50);
  RunToEnd(RunExactCase(*loop_, TcpPair(), &run));
  EXPECT_TRUE(absl::IsDeadlineExceeded(run.received)) << run.received;
}

TEST_F(SocketTest, ADeadlineThatIsNotReachedDisturbsNothing) {
  ExactCase run;
  run.text = "123456";
  run.into.resize(6);
  run.patience = std::chrono::milliseconds(1000);
  RunToEnd(RunExactCase(*loop_, TcpPair(), &run));
  EXPECT_TRUE(run.received.ok()) << run.received;
  EXPECT_EQ(run.into, "123456");
}

Task<void> WaitTwice(Socket& socket, absl::Status* first, absl::Status* second) {
  std::string buffer(10, '\0');
  *first = co_await socket.Readable(In(std::chrono::milliseconds(30)));
  EXPECT_EQ(co_await socket.Recv(BytesOf(buffer)), 1);
  *second = co_await socket.Readable(Deadline::max());
}

Task<void> WriteAt(Loop& loop, const UniqueFd& fd, std::chrono::milliseconds time) {
  EXPECT_EQ(::write(fd.get(), "1", 1), 1);
  co_await loop.Sleep(time);
  EXPECT_EQ(::write(fd.get(), "2", 1), 1);
}

Task<void> WaitTwiceAndClose(Loop& loop, Pair pair, absl::Status* first, absl::Status* second) {
  Socket near(loop, std::move(pair.near));
  auto both = Both(WaitTwice(near, first, second), WriteAt(loop, pair.far, std::chrono::milliseconds(100)));
  co_await std::move(both);
  auto closing = near.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, ADeadlineThatWasMetDoesNotEndWhatComesAfterIt) {
  absl::Status first = absl::UnknownError("");
  absl::Status second = absl::UnknownError("");
  RunToEnd(WaitTwiceAndClose(*loop_, TcpPair(), &first, &second));
  EXPECT_TRUE(first.ok()) << first;
  EXPECT_TRUE(second.ok()) << second;
}

// Back pressure.

struct SlowReader {
  std::string text;
  absl::Status sent = absl::UnknownError("not ended");
  bool sentWhenIdle = false;
  std::string received;
};

// Begins to read when the kernel takes no more from the writer.
Task<void> ReadAfterAWhile(Loop& loop, Socket& socket, SlowReader* run) {
  int unchanged = 0;
  for (int queued = 0; unchanged < 5;) {
    co_await loop.Sleep(std::chrono::milliseconds(20));
    const int before = std::exchange(queued, 0);
    EXPECT_EQ(::ioctl(socket.fd(), SIOCINQ, &queued), 0);
    unchanged = queued > 0 && queued == before ? unchanged + 1 : 0;
  }
  run->sentWhenIdle = run->sent.ok();
  auto receiving = ReceiveToEnd(socket, &run->received);
  co_await std::move(receiving);
}

Task<void> RunSlowReader(Loop& loop, Pair pair, SlowReader* run) {
  Socket near(loop, std::move(pair.near));
  Socket far(loop, std::move(pair.far));
  auto both = Both(SendInSlices(near, run->text, 1 << 20, &run->sent), ReadAfterAWhile(loop, far, run));
  co_await std::move(both);
  auto closeBoth = Both(CloseSocket(near), CloseSocket(far));
  co_await std::move(closeBoth);
}

TEST_F(SocketTest, AReaderThatDoesNotReadStopsTheWriter) {
  SlowReader run;
  run.text = RandomText(64 << 20, 5);
  RunToEnd(RunSlowReader(*loop_, TcpPair(), &run));
  EXPECT_FALSE(run.sentWhenIdle);
  EXPECT_TRUE(run.sent.ok()) << run.sent;
  EXPECT_TRUE(run.received == run.text);
}

Task<void> SendWithDeadline(Loop& loop, UniqueFd fd, const std::string& text, absl::Status* sent) {
  Socket socket(loop, std::move(fd));
  const iovec slice = SliceOf(text);
  *sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), In(std::chrono::milliseconds(50)));
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, ASendThatNobodyReadsEndsAtItsDeadline) {
  Pair pair = TcpPair();
  const std::string text(64 << 20, 'x');
  absl::Status sent;
  RunToEnd(SendWithDeadline(*loop_, std::move(pair.near), text, &sent));
  EXPECT_TRUE(absl::IsDeadlineExceeded(sent)) << sent;
}

// Many at once.

Task<void> EchoToEnd(Loop& loop, UniqueFd fd) {
  Socket socket(loop, std::move(fd));
  for (;;) {
    if (!socket.more()) {
      const absl::Status readable = co_await socket.Readable(Deadline::max());
      if (!readable.ok()) break;
    }
    PooledBuffer buffer = co_await loop.receiveBuffers().Acquire();
    const int size = co_await socket.Recv(MutableBytes(buffer.data(), buffer.size()));
    if (size == -EAGAIN) continue;
    if (size <= 0) break;
    const iovec slice{buffer.data(), static_cast<size_t>(size)};
    const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
    if (!sent.ok()) break;
  }
  auto closing = socket.Close();
  co_await std::move(closing);
}

Task<void> AskManyTimes(Loop& loop, UniqueFd fd, int number, int rounds, int* ended) {
  Socket socket(loop, std::move(fd));
  const std::string text = RandomText(500, static_cast<uint32_t>(number));
  std::string answer(text.size(), '\0');
  for (int i = 0; i < rounds; ++i) {
    const iovec slice = SliceOf(text);
    const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), In(std::chrono::seconds(60)));
    EXPECT_TRUE(sent.ok()) << sent;
    auto receiving = ReceiveAll(socket, BytesOf(answer), In(std::chrono::seconds(60)));
    const absl::Status received = co_await std::move(receiving);
    EXPECT_TRUE(received.ok()) << received;
    EXPECT_EQ(answer, text);
  }
  ++*ended;
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(SocketTest, AThousandConnectionsAtATimeEachGetTheirOwnBytesBack) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  constexpr int kConnections = 1000;
  int ended = 0;
  for (int i = 0; i < kConnections; ++i) {
    Pair pair = TcpPair();
    ASSERT_TRUE(pair.far.valid());
    loop_->Spawn(AskManyTimes(*loop_, std::move(pair.near), i, 5, &ended));
    loop_->Spawn(EchoToEnd(*loop_, std::move(pair.far)));
  }
  RunToEnd();
  EXPECT_EQ(ended, kConnections);
  EXPECT_EQ(loop_->receiveBuffers().inUse(), 0u);
}

}  // namespace
}  // namespace kveil::io
