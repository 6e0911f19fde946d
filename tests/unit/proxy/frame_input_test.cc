// Bytes of a socket become frames: held only as long as needed, and moved to memory of their own when they are long.
#include "proxy/frame_input.h"

#include <gtest/gtest.h>

#include <functional>

#include "../io/harness.h"
#include "peers.h"

namespace kveil::proxy {
namespace {

class FrameInputTest : public io::LoopTest {
 protected:
  FrameInputTest() {
    io::Pair pair = io::TcpPair();
    peer_ = Peer(std::move(pair.near));
    socket_ = std::make_unique<io::Socket>(*loop_, std::move(pair.far));
    input_ = std::make_unique<FrameInput>(*loop_, *socket_, shelf_, budget_, share_);
  }
  // A step of a test: the outcome of Fill or FillTo is put into `more_`.
  io::Task<void> Fill() {
    auto filling = input_->Fill();
    more_ = co_await std::move(filling);
  }
  io::Task<void> FillTo(size_t size) {
    auto filling = input_->FillTo(size);
    more_ = co_await std::move(filling);
  }
  io::Task<void> Do(std::function<void()> work) {
    work();
    co_return;
  }
  // Runs the steps one after the other, then closes.
  void RunSteps(std::vector<std::function<io::Task<void>()>> steps) { RunToEnd(Steps(std::move(steps))); }
  io::Task<void> Steps(std::vector<std::function<io::Task<void>()>> steps) {
    for (const auto& step : steps) {
      auto running = step();
      co_await std::move(running);
    }
    auto closing = socket_->Close();
    co_await std::move(closing);
  }
  std::function<io::Task<void>()> Filled() {
    return [this] { return Fill(); };
  }
  std::function<io::Task<void>()> FilledTo(size_t size) {
    return [this, size] { return FillTo(size); };
  }
  std::function<io::Task<void>()> Then(std::function<void()> work) {
    return [this, work = std::move(work)] { return Do(work); };
  }
  std::string Buffered() const { return std::string(AsText(input_->buffered())); }
  void ExpectMore(bool more) {
    ASSERT_TRUE(more_.ok()) << more_.status();
    EXPECT_EQ(*more_, more);
  }

  BufferShelf shelf_;
  WorkloadShare share_;
  MemoryBudget budget_{10 << 20};
  Peer peer_;
  std::unique_ptr<io::Socket> socket_;
  std::unique_ptr<FrameInput> input_;
  absl::StatusOr<bool> more_ = false;
};

TEST_F(FrameInputTest, HoldsNoBufferBeforeBytesCome) {
  EXPECT_FALSE(input_->IsStalled());
  EXPECT_TRUE(input_->buffered().empty());
  EXPECT_EQ(loop_->receiveBuffers().inUse(), 0u);
  RunSteps({Then([this] { peer_.Send("hello"); }), Filled(), Then([this] {
              ExpectMore(true);
              EXPECT_EQ(Buffered(), "hello");
              EXPECT_TRUE(input_->IsStalled());
              EXPECT_EQ(loop_->receiveBuffers().inUse(), 1u);
              input_->Consume(5);
              input_->ReleaseIfEmpty();
              EXPECT_EQ(loop_->receiveBuffers().inUse(), 0u);
            })});
}

TEST_F(FrameInputTest, KeepsWhatWasNotConsumedAtTheFront) {
  RunSteps({Then([this] { peer_.Send("abcdef"); }), Filled(), Then([this] {
              input_->Consume(4);
              EXPECT_EQ(Buffered(), "ef");
              peer_.Send("gh");
            }),
            Filled(), Then([this] { EXPECT_EQ(Buffered(), "efgh"); })});
}

TEST_F(FrameInputTest, KeepsAPartWhileItIsNotEmptied) {
  RunSteps({Then([this] { peer_.Send("abc"); }), Filled(), Then([this] {
              input_->Consume(1);
              input_->ReleaseIfEmpty();
              EXPECT_EQ(Buffered(), "bc");
            })});
}

TEST_F(FrameInputTest, FillsUpToASizeFromAnyNumberOfPieces) {
  std::vector<std::function<io::Task<void>()>> steps;
  std::thread sending([this] {
    for (const char byte : std::string_view("abcdefghij")) {
      peer_.Send(std::string(1, byte));
      ::usleep(1000);
    }
  });
  RunSteps({FilledTo(10), Then([this] {
              ExpectMore(true);
              EXPECT_EQ(Buffered(), "abcdefghij");
              EXPECT_EQ(budget_.used(), 0u) << "a short frame fits a buffer of the pool";
            })});
  sending.join();
}

// A peer that sends a part of a message and falls silent for a while.
class SilentPeerTest : public FrameInputTest {
 protected:
  // Waits until all of the part is there and `expected` holds, then lets the peer send the rest; the message must be
  // whole.
  void ExpectMeanwhile(const std::string& message, size_t partSize, std::function<bool()> expected) {
    std::thread sending([&] { peer_.Send(message.substr(0, partSize)); });
    RunToEnd(Look(message, partSize, std::move(expected)), Steps({Filled(), FilledTo(message.size()), Then([&] {
                                                                    ExpectMore(true);
                                                                    EXPECT_TRUE(Buffered() == message);
                                                                    held_.clear();
                                                                    input_->Abandon();
                                                                    EXPECT_EQ(budget_.used(), 0u);
                                                                  })}));
    sending.join();
  }
  io::Task<void> Look(const std::string& message, size_t partSize, std::function<bool()> expected) {
    for (int turn = 0; turn < 5000 && input_->buffered().size() < partSize; ++turn) {
      co_await loop_->Sleep(std::chrono::milliseconds(1));
    }
    co_await loop_->Sleep(std::chrono::milliseconds(10));  // it has begun to wait for the rest
    EXPECT_TRUE(expected()) << loop_->receiveBuffers().inUse() << " buffers, " << budget_.used() << " bytes";
    EXPECT_TRUE(Buffered() == message.substr(0, partSize));
    EXPECT_TRUE(input_->IsStalled());
    rest_ = std::thread([this, rest = message.substr(partSize)] { peer_.Send(rest); });
  }
  io::Task<void> Hold(size_t count) {
    for (size_t i = 0; i < count; ++i) held_.push_back(co_await loop_->receiveBuffers().Acquire());
  }
  ~SilentPeerTest() override { rest_.join(); }

  std::vector<io::PooledBuffer> held_;  // by others
  std::thread rest_;
};

TEST_F(SilentPeerTest, HoldsNoBufferForALittle) {
  ExpectMeanwhile("abcdefghij", 3, [this] { return loop_->receiveBuffers().inUse() == 0 && budget_.used() == 0; });
}

TEST_F(SilentPeerTest, HoldsABufferForMoreWhileThereArePlenty) {
  ExpectMeanwhile(Pattern(200'000), 100'000,
                  [this] { return loop_->receiveBuffers().inUse() == 1 && budget_.used() == 0; });
}

TEST_F(SilentPeerTest, HoldsNoBufferWhenTheyAreScarce) {
  loop_->Spawn(Hold(2));
  ExpectMeanwhile(Pattern(200'000), 100'000,
                  [this] { return loop_->receiveBuffers().inUse() == 2 && budget_.used() == 100'000; });
}

TEST_F(SilentPeerTest, HoldsABufferWhenTheBudgetIsUsedUpToo) {
  loop_->Spawn(Hold(2));
  ASSERT_TRUE(budget_.TryAcquire(10 << 20));
  ExpectMeanwhile(Pattern(200'000), 100'000, [this] {
    const bool holds = loop_->receiveBuffers().inUse() == 3;
    budget_.Release(10 << 20);
    return holds;
  });
}

TEST_F(SilentPeerTest, GetsNoRoomForALongFrameThatItHasHardlyBegun) {
  ExpectMeanwhile(Pattern(3 << 20), 1000, [this] { return budget_.used() == 0; });
}

TEST_F(SilentPeerTest, GetsTheRoomForALongFrameThatItHasBegunInEarnest) {
  ExpectMeanwhile(Pattern(3 << 20), 100'000, [this] { return budget_.used() == 3 << 20; });
}

TEST_F(FrameInputTest, TellsTheEndOfTheStream) {
  RunSteps({Then([this] {
              peer_.Send("last words");
              peer_.EndSending();
            }),
            Filled(), Then([this] {
              ExpectMore(true);
              input_->Consume(10);
            }),
            Filled(), Then([this] { ExpectMore(false); })});
}

TEST_F(FrameInputTest, TellsAStreamThatEndsTooEarly) {
  RunSteps({Then([this] {
              peer_.Send("half");
              peer_.EndSending();
            }),
            FilledTo(8), Then([this] {
              ExpectMore(false);
              EXPECT_EQ(Buffered(), "half");
            })});
}

TEST_F(FrameInputTest, TellsABrokenConnection) {
  RunSteps({Then([this] {
              peer_.Send("x");
              peer_.Reset();
            }),
            FilledTo(2), Then([this] { EXPECT_TRUE(absl::IsUnavailable(more_.status())) << more_.status(); })});
}

TEST_F(FrameInputTest, MovesALongFrameToMemoryOfItsOwn) {
  const std::string frame = Pattern(3 << 20);
  std::thread sending([&] { peer_.Send(frame + "next"); });
  RunSteps({Filled(), FilledTo(frame.size()), Then([&] {
              ExpectMore(true);
              EXPECT_TRUE(Buffered() == frame) << "a long frame's memory holds nothing else";
              EXPECT_EQ(budget_.used(), frame.size());
              EXPECT_EQ(loop_->receiveBuffers().inUse(), 0u);
              // Parsers read a little beyond the end.
              volatile uint8_t beyond = *(input_->buffered().data() + frame.size() + 63);
              (void)beyond;
              input_->Consume(frame.size());
            }),
            Filled(), FilledTo(4), Then([&] {
              EXPECT_EQ(Buffered(), "next");
              EXPECT_EQ(budget_.used(), 0u);
            })});
  sending.join();
}

TEST_F(FrameInputTest, WaitsForTheBudgetBeforeALongFrame) {
  const std::string frame = Pattern(2 << 20);
  std::thread sending([&] { peer_.Send(frame); });
  auto holder = [this]() -> io::Task<void> {
    auto room = budget_.Acquire(9 << 20);
    co_await std::move(room);
    co_await loop_->Sleep(std::chrono::milliseconds(100));
    EXPECT_EQ(budget_.used(), size_t{9} << 20) << "took more than there is";
    budget_.Release(9 << 20);
  };
  RunToEnd(holder(), Steps({Filled(), FilledTo(frame.size()), Then([&] { EXPECT_TRUE(Buffered() == frame); })}));
  sending.join();
}

TEST_F(FrameInputTest, GivesTheBudgetBackWhenItGoes) {
  const std::string frame = Pattern(2 << 20);
  std::thread sending([&] { peer_.Send(frame); });
  RunSteps({FilledTo(frame.size())});
  sending.join();
  EXPECT_GT(budget_.used(), 0u);
  input_.reset();
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(FrameInputTest, CountsWhatItReceives) {
  RunSteps({Then([this] { peer_.Send("abc"); }), FilledTo(3), Then([this] {
              EXPECT_EQ(input_->TakeReceivedCount(), 3u);
              EXPECT_EQ(input_->TakeReceivedCount(), 0u);
            })});
}

// A workload whose other connections have all that is its own.
class FullShareTest : public FrameInputTest {
 protected:
  io::Task<void> GiveBackWhenItWaits(std::function<void()> giveBack) {
    for (int turn = 0; turn < 5000 && share_.waiting == 0; ++turn) co_await loop_->Sleep(std::chrono::milliseconds(1));
    EXPECT_EQ(share_.waiting, 1u);
    EXPECT_TRUE(input_->waitsForMemory());
    giveBack();
    share_.changed.Set();
  }
};

TEST_F(FullShareTest, WaitsForABufferThoughThereAreSome) {
  share_.buffers = 1000;
  peer_.Send("request");
  RunToEnd(GiveBackWhenItWaits([this] { share_.buffers = 0; }), Steps({Filled(), Then([this] {
                                                                         EXPECT_EQ(Buffered(), "request");
                                                                         EXPECT_EQ(share_.buffers, 1u);
                                                                         input_->Abandon();
                                                                         EXPECT_EQ(share_.buffers, 0u);
                                                                       })}));
}

TEST_F(FullShareTest, WaitsForALongFramesMemoryThoughThereIsSome) {
  share_.bytes = 100 << 20;
  const std::string message = Pattern(3 << 20);
  std::thread sending([&] { peer_.Send(message); });
  RunToEnd(GiveBackWhenItWaits([this] { share_.bytes = 0; }), Steps({Filled(), FilledTo(message.size()), Then([&] {
                                                                       EXPECT_TRUE(Buffered() == message);
                                                                       EXPECT_EQ(share_.bytes, message.size());
                                                                       input_->Abandon();
                                                                       EXPECT_EQ(share_.bytes, 0u);
                                                                     })}));
  sending.join();
}

TEST_F(FullShareTest, WaitsNoLongerThanItsSocketIsThere) {
  share_.buffers = 1000;
  peer_.Send("request");
  RunToEnd(GiveBackWhenItWaits([this] { socket_->Cancel(); }),
           Steps({Filled(), Then([this] { EXPECT_FALSE(more_.ok()); })}));
}

}  // namespace
}  // namespace kveil::proxy
