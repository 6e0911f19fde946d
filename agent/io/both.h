// Two tasks at a time.
#pragma once

#include <utility>

#include "io/task.h"

namespace kveil::io {

// Runs both concurrently and ends when both have ended.
inline Task<void> Both(Task<void> first, Task<void> second) {
  first.Start();
  second.Start();
  co_await std::move(first);
  co_await std::move(second);
}

}  // namespace kveil::io
