// The loop: other threads, timers, stopping, and rings that are too small.
#include "io/loop.h"

#include <sys/eventfd.h>

#include <atomic>
#include <semaphore>
#include <thread>
#include <vector>

#include "harness.h"
#include "io/completion.h"
#include "io/event.h"
#include "io/turn.h"

namespace kveil::io {
namespace {

using LoopsTest = LoopTest;

TEST_F(LoopsTest, RunsWhatFourThreadsPostEachInItsOrder) {
  constexpr int kPosts = 10'000;
  constexpr int kThreads = 4;
  std::vector<int> next(kThreads, 0);
  int outOfOrder = 0;
  std::thread running([&] { loop_->Run(); });
  std::vector<std::thread> posting;
  for (int thread = 0; thread < kThreads; ++thread) {
    posting.emplace_back([&, thread] {
      for (int i = 0; i < kPosts; ++i) {
        loop_->Post([&, thread, i] { outOfOrder += next[thread]++ == i ? 0 : 1; });
      }
    });
  }
  for (std::thread& thread : posting) thread.join();
  loop_->Stop();
  running.join();
  EXPECT_EQ(outOfOrder, 0);
  EXPECT_EQ(next, std::vector<int>(kThreads, kPosts));
}

// The loop is held inside a posted function until both the post and the stop that follow it have been called.
TEST_F(LoopsTest, WhatWasPostedBeforeStopStillRuns) {
  std::binary_semaphore begun(0);
  std::binary_semaphore called(0);
  bool ran = false;
  std::thread running([&] { loop_->Run(); });
  loop_->Post([&] {
    begun.release();
    called.acquire();
  });
  begun.acquire();
  loop_->Post([&] { ran = true; });
  loop_->Stop();
  called.release();
  running.join();
  EXPECT_TRUE(ran);
}

Task<void> SleepFor(Loop& loop, std::chrono::milliseconds time, std::string* notes, char note) {
  co_await loop.Sleep(time);
  notes->push_back(note);
}

TEST_F(LoopsTest, StopWaitsForEveryTask) {
  std::string notes;
  const auto begun = std::chrono::steady_clock::now();
  RunToEnd(SleepFor(*loop_, std::chrono::milliseconds(30), &notes, 'a'));
  EXPECT_EQ(notes, "a");
  EXPECT_EQ(loop_->taskCount(), 0u);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(30));
}

TEST_F(LoopsTest, SleepersWakeInTheOrderOfTheirTimes) {
  std::string notes;
  RunToEnd(SleepFor(*loop_, std::chrono::milliseconds(40), &notes, 'c'),
           SleepFor(*loop_, std::chrono::milliseconds(1), &notes, 'a'),
           SleepFor(*loop_, std::chrono::milliseconds(20), &notes, 'b'),
           SleepFor(*loop_, std::chrono::milliseconds(-5), &notes, '0'));
  EXPECT_EQ(notes, "0abc");
}

Task<void> SleepUntilEnded(Loop::SleepAwaiter& sleep, std::string* notes, char note) {
  co_await sleep;
  notes->push_back(note);
}

Task<void> EndSleep(Loop& loop, std::chrono::milliseconds when, Loop::SleepAwaiter& sleep) {
  co_await loop.Sleep(when);
  sleep.End();
  sleep.End();
}

TEST_F(LoopsTest, ASleepThatIsEndedAheadOfItsTimeEndsOnce) {
  std::string notes;
  const Deadline never = std::chrono::steady_clock::now() + std::chrono::hours(1);
  Loop::SleepAwaiter ended(*loop_, never), neverBegun(*loop_, never), over(*loop_, Deadline::min());
  neverBegun.End();
  RunToEnd(SleepUntilEnded(ended, &notes, 'b'), EndSleep(*loop_, std::chrono::milliseconds(5), ended),
           SleepUntilEnded(neverBegun, &notes, 'a'), SleepUntilEnded(over, &notes, 'a'),
           EndSleep(*loop_, std::chrono::milliseconds(5), over));
  EXPECT_EQ(notes, "aab");
}

TEST_F(LoopsTest, TasksSpawnedBeforeRunRunOnTheLoopsThread) {
  std::string notes;
  loop_->Spawn(SleepFor(*loop_, std::chrono::milliseconds(1), &notes, 'a'));
  EXPECT_EQ(loop_->taskCount(), 1u);
  std::thread running([&] { loop_->Run(); });
  loop_->Stop();
  running.join();
  EXPECT_EQ(notes, "a");
}

TEST_F(LoopsTest, ALoopThatNeverRanTakesItsTasksWithIt) {
  std::string notes;
  loop_->Spawn(SleepFor(*loop_, std::chrono::milliseconds(1), &notes, 'a'));
  loop_.reset();
  EXPECT_EQ(notes, "");
}

Task<void> NoteAndStop(Loop& loop, std::string* notes) {
  notes->push_back('b');
  loop.Stop();
  co_return;
}

Task<void> SpawnAnother(Loop& loop, std::string* notes) {
  loop.Spawn(NoteAndStop(loop, notes));
  notes->push_back('a');
  co_return;
}

TEST_F(LoopsTest, ASpawnedTaskStartsAfterTheOneThatSpawnedIt) {
  std::string notes;
  loop_->Spawn(SpawnAnother(*loop_, &notes));
  loop_->Run();
  EXPECT_EQ(notes, "ab");
}

Task<void> LongWork(Loop& loop, const bool* enough, int* steps) {
  Turn turn(loop);
  while (!*enough) {
    co_await turn.Pause();
    ++*steps;
  }
}

Task<void> SleepThenEnough(Loop& loop, bool* enough) {
  co_await loop.Sleep(std::chrono::milliseconds(5));
  *enough = true;
}

TEST_F(LoopsTest, LongWorkLetsTheKernelAndTimersHaveTheirTurn) {
  bool enough = false;
  int steps = 0;
  const auto begun = std::chrono::steady_clock::now();
  RunToEnd(LongWork(*loop_, &enough, &steps), LongWork(*loop_, &enough, &steps), SleepThenEnough(*loop_, &enough));
  EXPECT_GT(steps, 100) << "it pauses too often";
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(5));
}

// Two coroutines that keep each other ready until a third, which needs the kernel, gets its turn.
Task<void> PingPong(Event& mine, Event& other, const bool* enough) {
  while (!*enough) {
    co_await mine.Wait();
    mine.Reset();
    other.Set();
  }
}

Task<void> SetAfter(Loop& loop, std::chrono::milliseconds time, bool* flag) {
  co_await loop.Sleep(time);
  *flag = true;
}

TEST_F(LoopsTest, CoroutinesThatKeepEachOtherReadyStarveNobody) {
  Event ping;
  Event pong;
  ping.Set();
  bool enough = false;
  RunToEnd(PingPong(ping, pong, &enough), PingPong(pong, ping, &enough),
           SetAfter(*loop_, std::chrono::milliseconds(20), &enough));
  EXPECT_TRUE(enough);
}

Task<void> ReadableOnce(Loop& loop, UniqueFd fd, int* ended, int* failed) {
  Socket socket(loop, std::move(fd));
  const absl::Status readable = co_await socket.Readable(In(std::chrono::seconds(30)));
  *failed += readable.ok() ? 0 : 1;
  auto closing = socket.Close();
  co_await std::move(closing);
  ++*ended;
}

Task<void> WriteToAll(Loop& loop, std::vector<UniqueFd>& fds) {
  auto turn = OneTurn(loop);
  co_await std::move(turn);
  for (const UniqueFd& fd : fds) EXPECT_EQ(::write(fd.get(), "x", 1), 1);
}

TEST(SmallRingTest, MoreOperationsThanEntriesAllCompleteAndMoreCompletionsToo) {
  Loop::Options options = SmallOptions();
  options.submissionEntries = 4;
  options.completionEntries = 8;
  auto loop = Loop::Create(options);
  ASSERT_TRUE(loop.ok()) << loop.status();
  constexpr int kSockets = 200;
  int ended = 0;
  int failed = 0;
  std::vector<UniqueFd> others;
  for (int i = 0; i < kSockets; ++i) {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    others.emplace_back(fds[1]);
    (*loop)->Spawn(ReadableOnce(**loop, UniqueFd(fds[0]), &ended, &failed));
  }
  (*loop)->Spawn(WriteToAll(**loop, others));
  (*loop)->Stop();
  (*loop)->Run();
  EXPECT_EQ(ended, kSockets);
  EXPECT_EQ(failed, 0);
}

// Cancels operations that are still waiting for an entry of their own.
Task<void> CancelAtOnce(Loop& loop, UniqueFd fd, std::vector<Socket*>& sockets, int* cancelled) {
  Socket socket(loop, std::move(fd));
  sockets.push_back(&socket);
  const absl::Status readable = co_await socket.Readable(Deadline::max());
  *cancelled += absl::IsCancelled(readable) ? 1 : 0;
  auto closing = socket.Close();
  co_await std::move(closing);
}

Task<void> CancelAll(std::vector<Socket*>& sockets) {
  for (Socket* socket : sockets) socket->Cancel();
  co_return;
}

TEST(SmallRingTest, OperationsThatWaitForAnEntryCanBeCancelled) {
  Loop::Options options = SmallOptions();
  options.submissionEntries = 4;
  options.completionEntries = 8;
  auto loop = Loop::Create(options);
  ASSERT_TRUE(loop.ok()) << loop.status();
  constexpr int kSockets = 50;
  int cancelled = 0;
  std::vector<UniqueFd> others;
  std::vector<Socket*> sockets;
  for (int i = 0; i < kSockets; ++i) {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    others.emplace_back(fds[1]);
    (*loop)->Spawn(CancelAtOnce(**loop, UniqueFd(fds[0]), sockets, &cancelled));
  }
  (*loop)->Spawn(CancelAll(sockets));
  (*loop)->Stop();
  (*loop)->Run();
  EXPECT_EQ(cancelled, kSockets);
}

Task<void> AwaitThread(Loop& loop, std::thread* worker, std::unique_ptr<int>* got, std::thread::id* resumedOn) {
  auto start = [worker](absl::AnyInvocable<void(std::unique_ptr<int>)> done) {
    *worker = std::thread([done = std::move(done)]() mutable { done(std::make_unique<int>(42)); });
  };
  auto waiting = AwaitCallback<std::unique_ptr<int>>(loop, std::move(start));
  *got = co_await std::move(waiting);
  *resumedOn = std::this_thread::get_id();
}

TEST_F(LoopsTest, AwaitsWhatAnotherThreadDoesAndGoesOnOnItsOwn) {
  std::thread worker;
  std::unique_ptr<int> got;
  std::thread::id resumedOn;
  RunToEnd(AwaitThread(*loop_, &worker, &got, &resumedOn));
  worker.join();
  ASSERT_NE(got, nullptr);
  EXPECT_EQ(*got, 42);
  EXPECT_EQ(resumedOn, std::this_thread::get_id());
}

Task<void> AwaitAtOnce(Loop& loop, int* got) {
  auto start = [](absl::AnyInvocable<void(int)> done) { done(43); };
  auto waiting = AwaitCallback<int>(loop, std::move(start));
  *got = co_await std::move(waiting);
}

TEST_F(LoopsTest, AwaitsACallbackThatIsCalledAtOnce) {
  int got = 0;
  RunToEnd(AwaitAtOnce(*loop_, &got));
  EXPECT_EQ(got, 43);
}

Task<void> AwaitManyCallbacks(Loop& loop, int count, std::atomic<int>* pending, int64_t* sum) {
  for (int i = 0; i < count; ++i) {
    auto start = [&](absl::AnyInvocable<void(int)> done) {
      pending->fetch_add(1);
      std::thread([done = std::move(done), pending, i]() mutable {
        done(i);
        pending->fetch_sub(1);
      }).detach();
    };
    auto waiting = AwaitCallback<int>(loop, std::move(start));
    *sum += co_await std::move(waiting);
  }
}

TEST_F(LoopsTest, ManyCallbacksFromManyThreadsLoseNone) {
  std::atomic<int> pending{0};
  int64_t first = 0;
  int64_t second = 0;
  RunToEnd(AwaitManyCallbacks(*loop_, 300, &pending, &first), AwaitManyCallbacks(*loop_, 300, &pending, &second));
  EXPECT_EQ(first, 299 * 150);
  EXPECT_EQ(second, 299 * 150);
  while (pending.load() > 0) std::this_thread::yield();
}

}  // namespace
}  // namespace kveil::io
