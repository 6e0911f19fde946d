// Maps a cgroup to its workload: path, systemd unit, and the share it counts towards.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "identity/origin.h"
#include "identity/workload.h"

namespace kveil::intercept {

class Workloads {
 public:
  // `cgroup`: any directory of the cgroup v2 mount (InterceptConfig::cgroup). kInvalidArgument: it is not one.
  static absl::StatusOr<std::unique_ptr<Workloads>> Open(const std::string& cgroup);
  ~Workloads();

  // The workload that opened a connection. If its cgroup is gone and was never asked for before, the path is empty: it
  // matches no unit and no path, and its share is that of the cgroup above, or, if that is gone too, one that all such
  // workloads have together. Any thread. Costs some system calls the first time, then a hash lookup.
  identity::Workload Find(const identity::Origin& origin);

 private:
  struct State;
  explicit Workloads(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::intercept
