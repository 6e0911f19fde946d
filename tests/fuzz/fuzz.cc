// The entry point that libFuzzer calls, and the limit of time.
#include "fuzz.h"

#include <time.h>

#include <cstdio>
#include <cstdlib>

namespace kveil::fuzz {
namespace {

// Processor time, not time of day: the machine may be busy. An input takes some ten microseconds, so this is only
// passed by work that grows faster than the input.
constexpr double kMostSeconds = 2;

double ProcessorSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

void Check(bool holds, std::string_view promise) {
  if (holds) return;
  std::fprintf(stderr, "kveil fuzzing: BROKEN PROMISE: %.*s\n", static_cast<int>(promise.size()), promise.data());
  std::abort();
}

}  // namespace kveil::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kveil::fuzz;
  const double start = ProcessorSeconds();
  Run(kveil::Bytes(data, size));
  Check(ProcessorSeconds() - start < kMostSeconds, "an input is dealt with in two seconds");
  return 0;
}
