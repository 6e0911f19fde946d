// Links the programs to the configured cgroup: makes or updates all links, or none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "intercept/kernel/pins.h"
#include "intercept/kernel/programs.h"
#include "intercept/system/cgroup_tree.h"

namespace kveil::intercept {

class Attachments {
 public:
  // Updates each program's pinned link in place if there is one for this cgroup, so that no connect slips through
  // between two agents; otherwise makes and pins a new link. If it fails, everything is as before. kFailedPrecondition
  // names the program or the other agent that is in the way. `pins` guards the links' pins from then on.
  static absl::StatusOr<Attachments> Make(absl::Span<const Program> programs, const CgroupTree& cgroup,
                                          PinDirectory& pins);
  Attachments(Attachments&&) = default;
  ~Attachments();

  // Whether each link still runs our program and is still attached to this cgroup. (If a cgroup dies, its attachment
  // goes; the link stays.)
  absl::Status Check(const CgroupTree& cgroup) const;
  size_t count() const { return slots_.size(); }

 private:
  struct Slot {
    Program program;
    uint32_t programId = 0;
    UniqueFd link;
    bool isNew = false;
    std::string pin;           // where a new link is pinned
    UniqueFd replacedProgram;  // what ran here before an update
    std::string path;
  };
  Attachments() = default;
  absl::Status Attach(const CgroupTree& cgroup);
  absl::Status UpdateOld();
  absl::Status PinNew();
  void Revert();

  std::vector<Slot> slots_;
  bool committed_ = false;
};

}  // namespace kveil::intercept
