// The ring of a loop: made, checked for what the agent needs of it, and taken down.
#pragma once

#include <liburing.h>

#include <memory>

#include "absl/status/statusor.h"
#include "io/loop.h"

namespace kveil::io {

struct Loop::Ring {
  // Made disabled, so that the thread that calls Enable becomes the only one that may submit.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(const Loop::Options& options);
  ~Ring() { io_uring_queue_exit(&ring); }
  void Enable();

  io_uring ring{};

 private:
  Ring() = default;
  absl::Status CheckFeatures(unsigned features) const;
};

}  // namespace kveil::io
