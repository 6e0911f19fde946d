// Aborts the process when continuing would let the kernel or a coroutine write to memory that has a new owner by now.
#pragma once

#include <string_view>

namespace kveil::io::internal {

// Logs `what` and aborts.
[[noreturn]] void Bug(std::string_view what);

// Checked in every build: it costs a branch, and prevents silent corruption of records.
inline void Require(bool condition, std::string_view what) {
  if (!condition) [[unlikely]] {
    Bug(what);
  }
}

}  // namespace kveil::io::internal
