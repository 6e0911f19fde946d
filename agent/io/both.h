// Two tasks at a time.
#pragma once

#include <utility>

#include "io/loop.h"
#include "io/task.h"

namespace kveil::io {

// Runs both concurrently and ends when both have ended.
inline Task<void> Both(Task<void> first, Task<void> second) {
  first.Start();
  second.Start();
  co_await std::move(first);
  co_await std::move(second);
}

inline Task<void> Both(Loop&, Task<void> first, Task<void> second) { return Both(std::move(first), std::move(second)); }

}  // namespace kveil::io
