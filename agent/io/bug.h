// Ends the process where going on would let the kernel or a coroutine write to memory that is somebody else's by now.
#pragma once

#include <string_view>

namespace kveil::io::internal {

[[noreturn]] void Bug(std::string_view what);

// Checked in every build: it costs a branch, and what it prevents is silent corruption of records.
inline void Require(bool condition, std::string_view what) {
  if (!condition) [[unlikely]] {
    Bug(what);
  }
}

}  // namespace kveil::io::internal
