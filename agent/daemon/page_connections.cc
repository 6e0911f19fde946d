#include "daemon/page_connections.h"

#include <utility>

namespace kveil::daemon {

void PageConnections::Answer(Reply reply) {
  std::string answer;
  {
    const MutexLock lock(mutex_);
    if (!answer_.empty() && Clock::now() - answeredAt_ < kAge) {
      answer = answer_;
    } else if (!waiting_.empty() && waiting_.size() < kMostWaiting) {
      waiting_.push_back(std::move(reply));
      return;
    } else if (waiting_.empty() && threads_.Run("connections", [this] { Ask(); }).ok()) {
      waiting_.push_back(std::move(reply));  // before the thread has the lock
      return;
    }
  }
  reply(answer);
}

void PageConnections::Ask() {
  std::string answer = ask_();
  std::vector<Reply> waiting;
  {
    const MutexLock lock(mutex_);
    answer_ = answer;
    answeredAt_ = Clock::now();
    waiting.swap(waiting_);
  }
  for (const Reply& reply : waiting) reply(answer);
}

}  // namespace kveil::daemon
