// Which workload a cgroup is: its path, its systemd unit, and whose share it counts towards.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "identity/origin.h"
#include "identity/workload.h"

namespace kveil::intercept {

class Workloads {
 public:
  // `cgroup`: any directory of the cgroup v2 mount (InterceptConfig::cgroup). kInvalidArgument when it is not one.
  static absl::StatusOr<std::unique_ptr<Workloads>> Open(const std::string& cgroup);
  ~Workloads();

  // Who opened a connection. The path is empty when the cgroup is gone and was never asked for before: such a workload
  // matches no unit and no path. Its share is that of the cgroup above; only those of which that is gone, too, have one
  // together. Any thread; some system calls the first time, a hash look-up after.
  identity::Workload Find(const identity::Origin& origin);

 private:
  struct State;
  explicit Workloads(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::intercept
