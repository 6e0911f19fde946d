#include "daemon/page_connections.h"

#include <utility>

#include "nlohmann/json.hpp"

namespace kveil::daemon {

std::string PageTextOf(const admin::ConnectionsCommand::Response& listed) {
  using Json = nlohmann::json;
  Json rows = Json::array();
  for (const admin::ConnectionsCommand::Connection& one : listed.connections) {
    rows.push_back({{"workload", one.workload},
                    {"cluster", one.cluster},
                    {"broker", one.broker},
                    {"clientId", one.clientId.value_or("")},
                    {"requestBytes", one.requestBytes},
                    {"responseBytes", one.responseBytes},
                    {"sealed", one.sealed},
                    {"opened", one.opened},
                    {"denied", one.denied},
                    {"refused", one.refused}});
  }
  // A client chooses some of these texts.
  return Json({{"connections", std::move(rows)}, {"total", listed.total}})
      .dump(-1, ' ', true, Json::error_handler_t::replace);
}

void PageConnections::Answer(Reply reply) {
  std::string answer;
  {
    const MutexLock lock(mutex_);
    if (!answer_.empty() && Clock::now() - answeredAt_ < age_) {
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
