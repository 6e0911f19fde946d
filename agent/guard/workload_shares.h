// How much each workload holds of a table that all of them share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"

namespace kveil::guard {

// Not thread-safe: the table's lock guards it, also while shares are let go.
class WorkloadShares {
 public:
  // Counts for its workload for as long as it is kept: each entry of the table keeps one.
  using Share = std::shared_ptr<const void>;

  explicit WorkloadShares(size_t mostOfAWorkload) : most_(mostOfAWorkload) {}

  // nullptr when the workload holds all that it may.
  Share Take(std::string_view workload) {
    if (shares_.size() >= forgetAt_) ForgetThoseWithout();
    const auto [found, isNew] = shares_.try_emplace(ToAbsl(workload));
    if (isNew) found->second = std::make_shared<char>();
    return static_cast<size_t>(found->second.use_count()) - 1 < most_ ? found->second : nullptr;
  }

  // Workloads that are counted, those that hold nothing any more included.
  size_t size() const { return shares_.size(); }

 private:
  static constexpr size_t kForgetAtLeastAt = 1024;

  void ForgetThoseWithout() {
    absl::erase_if(shares_, [](const auto& entry) { return entry.second.use_count() == 1; });
    forgetAt_ = std::max(kForgetAtLeastAt, 2 * shares_.size());
  }

  const size_t most_;
  size_t forgetAt_ = kForgetAtLeastAt;
  absl::flat_hash_map<std::string, std::shared_ptr<char>> shares_;
};

}  // namespace kveil::guard
