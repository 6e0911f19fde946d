// Events and locks between coroutines of one thread.
#include "io/event.h"

#include <string>

#include "harness.h"
#include "io/mutex.h"

namespace kveil::io {
namespace {

using EventTest = LoopTest;
using MutexTest = LoopTest;

Task<void> WaitAndNote(Event& event, std::string* notes, char note) {
  co_await event.Wait();
  notes->push_back(note);
}

Task<void> SetAndReset(Event& event, std::string* notes) {
  event.Set();
  event.Reset();
  notes->push_back('-');
  co_return;
}

TEST_F(EventTest, WakesEverybodyInTheOrderOfTheirWaitingAlsoWhenResetAtOnce) {
  Event event;
  std::string notes;
  RunToEnd(WaitAndNote(event, &notes, 'a'), WaitAndNote(event, &notes, 'b'), SetAndReset(event, &notes));
  EXPECT_EQ(notes, "-ab");
  EXPECT_FALSE(event.IsSet());
}

Task<void> SetOnly(Event& event) {
  event.Set();
  co_return;
}

TEST_F(EventTest, StaysSetForThoseWhoComeLater) {
  Event event;
  std::string notes;
  RunToEnd(SetOnly(event), WaitAndNote(event, &notes, 'a'), WaitAndNote(event, &notes, 'b'));
  EXPECT_EQ(notes, "ab");
}

Task<void> HoldLock(Loop& loop, Mutex& mutex, std::string* notes, char note, int turns) {
  const auto lock = co_await mutex.Lock();
  notes->push_back(note);
  for (int i = 0; i < turns; ++i) {
    auto turn = OneTurn(loop);
    co_await std::move(turn);
  }
  notes->push_back(static_cast<char>(note - 'a' + 'A'));
}

TEST_F(MutexTest, IsHeldByOneAtATimeInTheOrderOfAsking) {
  Mutex mutex;
  std::string notes;
  RunToEnd(HoldLock(*loop_, mutex, &notes, 'a', 3), HoldLock(*loop_, mutex, &notes, 'b', 0),
           HoldLock(*loop_, mutex, &notes, 'c', 1), HoldLock(*loop_, mutex, &notes, 'd', 0));
  EXPECT_EQ(notes, "aAbBcCdD");
}

Task<void> LockAgainAtOnce(Loop& loop, Mutex& mutex, std::string* notes) {
  {
    const auto lock = co_await mutex.Lock();
    auto turn = OneTurn(loop);  // somebody comes to wait
    co_await std::move(turn);
    notes->push_back('1');
  }
  const auto lock = co_await mutex.Lock();
  notes->push_back('3');
}

Task<void> LockLater(Mutex& mutex, std::string* notes) {
  const auto lock = co_await mutex.Lock();
  notes->push_back('2');
}

TEST_F(MutexTest, WhoGaveItUpDoesNotOvertakeWhoWaits) {
  Mutex mutex;
  std::string notes;
  RunToEnd(LockAgainAtOnce(*loop_, mutex, &notes), LockLater(mutex, &notes));
  EXPECT_EQ(notes, "123");
}

TEST(MutexAloneTest, WithoutContentionItNeverSuspends) {
  Mutex mutex;
  Mutex::Awaiter awaiter = mutex.Lock();
  EXPECT_TRUE(awaiter.await_ready());
  const Mutex::Holder lock = awaiter.await_resume();
  EXPECT_FALSE(mutex.Lock().await_ready());
}

}  // namespace
}  // namespace kveil::io
