// Writes lines to a descriptor on a thread of its own, so that nobody waits for whoever reads them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace kveil::log {

class LineWriter {
 public:
  struct Options {
    int fd = 2;
    size_t queueSize = 1 << 20;  // bytes; what is written at this moment takes as much again
    // Called a second after AskForMore, on the writer's thread; what it returns is written, too.
    std::function<std::string()> more;
    // The line that tells of this many lost ones, written when the reader goes on.
    std::function<std::string(uint64_t lines)> lost;
  };

  explicit LineWriter(Options options);
  // Flushes for a moment. A write that is stuck then is left to itself.
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // Takes a line with its end, or counts it as lost when the queue is full. Never waits. In a child that was forked off
  // (a test's), where the thread is missing, it writes at once.
  void Write(std::string_view line);

  void AskForMore();

  // Waits until all lines so far are written. False when `limit` has passed before.
  bool Flush(std::chrono::milliseconds limit);

  uint64_t lost() const;

 private:
  struct State;
  static void Run(std::shared_ptr<State> state);

  const pid_t process_;
  const std::shared_ptr<State> state_;  // the thread's, too, which may outlive this
};

}  // namespace kveil::log
