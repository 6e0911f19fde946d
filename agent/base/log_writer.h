// Writes lines to a descriptor on its own thread, so that no other thread waits for the reader.
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
    size_t queueSize = 1 << 20;  // bytes; the lines being written take as much again
    // Called on the writer's thread one second after AskForMore; the result is written, too.
    std::function<std::string()> more;
    // Returns the line that reports `lines` lost ones; it is written once the reader continues.
    std::function<std::string(uint64_t lines)> lost;
  };

  explicit LineWriter(Options options);
  // Flushes for at most a second, then abandons a write that is still stuck.
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // Queues a line, which must end in a newline, or counts it as lost if the queue is full. Never waits. In a forked
  // child (of a test), which lacks the thread, it writes at once.
  void Write(std::string_view line);

  void AskForMore();

  // Waits until all lines so far are written. Returns false if `limit` passes first.
  bool Flush(std::chrono::milliseconds limit);

  uint64_t lost() const;

 private:
  struct State;
  static void Run(std::shared_ptr<State> state);

  const pid_t process_;
  const std::shared_ptr<State> state_;  // shared with the thread, which may outlive this
};

}  // namespace kveil::log
