// The connections for the web page, which everybody may ask for who reaches its port.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "admin/command_threads.h"
#include "admin/connections_command.h"
#include "base/mutex.h"

namespace kveil::daemon {

// The JSON that the page's script reads: of each connection what its table shows, and nothing else.
std::string PageTextOf(const admin::ConnectionsCommand::Response& listed);

// However many ask, the workers are asked once a second, one question at a time.
class PageConnections {
 public:
  using Clock = std::chrono::steady_clock;
  using Reply = std::function<void(std::string_view json)>;
  static constexpr size_t kMostWaiting = 4;
  static constexpr std::chrono::milliseconds kAge{1000};

  // `ask` returns the JSON, and may block; one call at a time. It is not called after the end.
  // `age`: for how long an answer is given again.
  explicit PageConnections(std::function<std::string()> ask, Clock::duration age = kAge)
      : ask_(std::move(ask)), age_(age) {}
  // Waits for what is being asked.
  ~PageConnections() { threads_.Stop(); }

  // Never blocks. Calls back at once, or from another thread later; with nothing where kMostWaiting wait already, or
  // the system has no thread left.
  void Answer(Reply reply);

 private:
  void Ask();

  const std::function<std::string()> ask_;
  const Clock::duration age_;
  Mutex mutex_;
  std::string answer_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point answeredAt_ ABSL_GUARDED_BY(mutex_);
  std::vector<Reply> waiting_ ABSL_GUARDED_BY(mutex_);  // for what is being asked
  admin::CommandThreads threads_{2};                    // one asks, and another may still give the answer before
};

}  // namespace kveil::daemon
