// Connections between their SYN and their acceptance, and how many of them each workload has.
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

// The map `interim`, and the counts in `shares` that bound it. One thread at a time.
class WaitingConnections {
 public:
  // Does not own the descriptors. kResourceExhausted: `shares` cannot be mapped.
  static absl::StatusOr<WaitingConnections> Open(int interimFd, int sharesFd);

  // Removes connections that have waited longer than `age`, and returns how many. Over loopback a connection is
  // accepted within milliseconds: what remains belongs to a client that does not complete it, or to a socket whose end
  // the kernel half did not see. If it is accepted later, it has no origin and is closed.
  size_t RemoveOlderThan(std::chrono::nanoseconds age) const;
  // Makes the counts match the entries again: an agent that was killed may have removed an entry without counting it.
  void Recount() const;

 private:
  std::vector<int32_t> Drift() const;  // by slot: by how much the count is too high
  void Uncount(const kveil_waiting& waiting) const;
  struct Unmap {
    void operator()(kveil_share* shares) const;
  };
  WaitingConnections(int interimFd, kveil_share* shares) : interimFd_(interimFd), shares_(shares) {}

  int interimFd_;
  std::unique_ptr<kveil_share, Unmap> shares_;  // the kernel's own memory
};

}  // namespace kveil::intercept
