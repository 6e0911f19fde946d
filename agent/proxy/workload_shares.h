// How much each workload holds of a table that all of them share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

// Not thread-safe: the table's lock guards it, also while shares are let go.
class WorkloadShares {
 public:
  // Counts for its workload for as long as it is kept: each entry of the table keeps one.
  using Share = std::shared_ptr<const void>;

  explicit WorkloadShares(size_t mostOfAWorkload = std::numeric_limits<size_t>::max()) : most_(mostOfAWorkload) {}

  // nullptr when the workload holds all that it may.
  Share Take(std::string_view workload) {
    const std::shared_ptr<char>& share = Of(workload);
    return HeldOf(share) < most_ ? share : nullptr;
  }
  // The same for a bound that is a share of what is left (proxy/workload_share.h): `free` places of the table are free.
  Share TakeOf(size_t free, std::string_view workload) {
    const std::shared_ptr<char>& share = Of(workload);
    return free > 0 && IsWithinShare(HeldOf(share), 1, free) ? share : nullptr;
  }

  // The number of workloads that are counted, including those that hold nothing any more.
  size_t size() const { return shares_.size(); }

 private:
  static constexpr size_t kForgetAtLeastAt = 1024;

  const std::shared_ptr<char>& Of(std::string_view workload) {
    if (shares_.size() >= forgetAt_) ForgetThoseWithout();
    const auto [found, isNew] = shares_.try_emplace(ToAbsl(workload));
    if (isNew) found->second = std::make_shared<char>();
    return found->second;
  }
  static size_t HeldOf(const std::shared_ptr<char>& share) { return static_cast<size_t>(share.use_count()) - 1; }

  void ForgetThoseWithout() {
    absl::erase_if(shares_, [](const auto& entry) { return entry.second.use_count() == 1; });
    forgetAt_ = std::max(kForgetAtLeastAt, 2 * shares_.size());
  }

  const size_t most_;
  size_t forgetAt_ = kForgetAtLeastAt;
  absl::flat_hash_map<std::string, std::shared_ptr<char>> shares_;
};

}  // namespace kveil::proxy
