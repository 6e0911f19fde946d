// A bar on stderr that says how far a long command is.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <iostream>
#include <string>
#include <utility>

namespace kveil::cli {

// On a terminal only.
class Progress {
 public:
  // `all` is at least 1. `what`: what is counted, in the plural.
  Progress(size_t all, std::string what) : all_(all), what_(std::move(what)), isShown_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (isShown_) std::cerr << "\r\033[K" << std::flush;
  }
  void Show(size_t done) {
    constexpr size_t kWidth = 40;
    const size_t percent = done * 100 / all_;
    if (!isShown_ || percent == percent_) return;
    percent_ = percent;
    const size_t full = done * kWidth / all_;
    std::cerr << "\r[" << std::string(full, '#') << std::string(kWidth - full, ' ') << "] " << percent << " %, " << done
              << " of " << all_ << " " << what_ << std::flush;
  }

 private:
  const size_t all_;
  const std::string what_;
  const bool isShown_;
  size_t percent_ = 101;
};

}  // namespace kveil::cli
