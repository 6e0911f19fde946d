// The questions that wait for the key service. Workloads take turns, however much one of them asks for.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"

namespace kveil::keys {

// Not thread-safe. Every call takes constant time.
template <typename T>
class FairQueue {
 public:
  void Push(std::string_view workload, T item) {
    const auto [waiting, isNew] = waiting_.try_emplace(ToAbsl(workload));
    if (isNew) turns_.emplace_back(workload);
    waiting->second.push_back(std::move(item));
  }

  // The oldest item of the workload whose turn it is. The queue must not be empty.
  T Pop() {
    std::string workload = std::move(turns_.front());
    turns_.pop_front();
    const auto waiting = waiting_.find(workload);
    T item = std::move(waiting->second.front());
    waiting->second.pop_front();
    if (waiting->second.empty()) {
      waiting_.erase(waiting);
    } else {
      turns_.push_back(std::move(workload));
    }
    return item;
  }

  bool empty() const { return turns_.empty(); }

 private:
  absl::flat_hash_map<std::string, std::deque<T>> waiting_;  // none of them empty
  std::deque<std::string> turns_;                            // the workloads of waiting_, the next one first
};

}  // namespace kveil::keys
