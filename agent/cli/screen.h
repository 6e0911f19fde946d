// A terminal that a command fills again and again, and leaves as it was.
#pragma once

#include <termios.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace kveil::cli {

class Screen {
 public:
  // Whether there is a terminal to fill, and keys to be read.
  static bool IsThere();

  // Takes the terminal; one at a time. SIGINT, SIGTERM and SIGHUP end AwaitEnd from then on, in place of the process.
  Screen();
  ~Screen();  // gives it back as it was
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Shows the lines from the top, as far as there is room. They have no control characters.
  void Show(const std::vector<std::string>& lines) const;
  size_t height() const;  // in lines

  // Waits for so long. Returns true at once when the user wants to end: by q, Ctrl-C, a signal, or the terminal is
  // gone.
  bool AwaitEnd(std::chrono::milliseconds time) const;

 private:
  termios before_{};
  sigset_t blockedBefore_{};
  UniqueFd signals_;
};

}  // namespace kveil::cli
