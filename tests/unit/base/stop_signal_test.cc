#include "base/stop_signal.h"

#include <gtest/gtest.h>

#include <thread>

namespace kveil {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

TEST(StopSignalTest, SleepsAsLongAsNobodyStopsIt) {
  StopSignal signal;
  const auto start = steady_clock::now();
  EXPECT_TRUE(signal.Sleep(milliseconds(20)));
  EXPECT_GE(steady_clock::now() - start, milliseconds(20));
}

TEST(StopSignalTest, StopEndsTheSleepThatIsAndThoseToCome) {
  StopSignal signal;
  const auto start = steady_clock::now();
  std::thread sleeper([&] { EXPECT_FALSE(signal.Sleep(seconds(60))); });
  std::this_thread::sleep_for(milliseconds(20));  // so that it sleeps; it ends in any case
  signal.Stop();
  sleeper.join();
  EXPECT_FALSE(signal.Sleep(seconds(60)));
  EXPECT_LT(steady_clock::now() - start, seconds(30));
}

}  // namespace
}  // namespace kveil
