// Runs two tasks concurrently.
#pragma once

#include <utility>

#include "io/task.h"

namespace kveil::io {

// Starts both tasks and completes when both have completed.
inline Task<void> Both(Task<void> first, Task<void> second) {
  first.Start();
  second.Start();
  co_await std::move(first);
  co_await std::move(second);
}

}  // namespace kveil::io
