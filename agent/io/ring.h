// A loop's ring: creates it, checks that it has what the agent needs, and tears it down.
#pragma once

#include <liburing.h>

#include <memory>

#include "absl/status/statusor.h"
#include "io/loop.h"

namespace kveil::io {

struct Loop::Ring {
  // Creates the ring disabled: the thread that calls Enable becomes the only one that may submit. kFailedPrecondition
  // as for Loop::Create.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(const Loop::Options& options);
  ~Ring() { io_uring_queue_exit(&ring); }
  void Enable();

  io_uring ring{};

 private:
  Ring() = default;
  absl::Status CheckFeatures(unsigned features) const;
};

}  // namespace kveil::io
