// Logs that a workload may not read a topic: once per connection and topic.
#pragma once

#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "base/log.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class DenialLog {
 public:
  // The most lines per connection.
  static constexpr size_t kMostTopics = 100;

  // Callers make sure that topic names are at most kafka::kLongestTopicName bytes long.
  explicit DenialLog(const proxy::ConnectionInfo& connection) : connection_(connection) {}

  void Report(std::string_view topic, std::string_view reason = "policy") {
    if (reported_.size() >= kMostTopics || !reported_.emplace(topic).second) return;
    const identity::Workload& workload = connection_.workload;
    log::Warning("fetch.denied", {{"connection", connection_.id},
                                  {"topic", topic},
                                  {"workload", workload.name()},
                                  {"share", workload.share},
                                  {"reason", reason}});
  }

 private:
  const proxy::ConnectionInfo& connection_;
  absl::flat_hash_set<std::string> reported_;
};

}  // namespace kveil::guard
