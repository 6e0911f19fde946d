// Which workload a cgroup is: its path, its systemd unit, and whose share it counts towards.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "intercept/redirect.h"
#include "policy/policy.h"

namespace kveil::intercept {

class Workloads {
 public:
  // `cgroup`: any directory of the cgroup v2 mount (InterceptConfig::cgroup). kInvalidArgument when it is not one.
  static absl::StatusOr<std::unique_ptr<Workloads>> Open(const std::string& cgroup);
  ~Workloads();

  // Who opened a connection. The path is empty when the cgroup is gone and was never asked for before: such a workload
  // matches no unit and no path. Its share is that of the cgroup above; only those of which that is gone, too, have one
  // together. Any thread; some system calls the first time, a hash look-up after.
  policy::Workload Find(const Origin& origin);

 private:
  struct State;
  explicit Workloads(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The systemd unit that a cgroup path belongs to, empty if none. The outermost one: what a unit makes below itself
// (delegation) bears names of its own choosing, so a name found there proves nothing. A unit of a user's manager is
// named with its manager, "user@1000.service/foo.service", because any user can give it any name. Below a pod
// ("kubepods") there is no unit.
std::string UnitOf(std::string_view cgroupPath);

}  // namespace kveil::intercept
