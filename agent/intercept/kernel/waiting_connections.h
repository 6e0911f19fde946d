// The connections between their SYN and their acceptance, and how many of them each workload has.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "intercept.h"

namespace kveil::intercept {

// The map `interim` and the counts that bound it, in `shares`. One thread at a time.
class WaitingConnections {
 public:
  // The descriptors stay their owner's.
  static absl::StatusOr<WaitingConnections> Open(int interimFd, int sharesFd);

  // Takes out what has waited longer than `age`: a connection over loopback is accepted within milliseconds, and what
  // is still there belongs to a client that does not take part, or to a socket whose end the kernel half did not see.
  // A connection that is accepted later has no origin, and is closed. Returns how many there were.
  size_t RemoveOlderThan(std::chrono::nanoseconds age) const;
  // Makes the counts those of the entries again: an agent that was killed may have taken an entry out and not counted.
  void Recount() const;

 private:
  std::vector<int32_t> Drift() const;  // by slot: how much is counted too much
  void Uncount(const kveil_waiting& waiting) const;
  struct Unmap {
    void operator()(kveil_share* shares) const;
  };
  WaitingConnections(int interimFd, kveil_share* shares) : interimFd_(interimFd), shares_(shares) {}

  int interimFd_;
  std::unique_ptr<kveil_share, Unmap> shares_;  // the kernel's own memory
};

}  // namespace kveil::intercept
