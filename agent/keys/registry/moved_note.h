// A note beside the place of a registry's file that was moved elsewhere. The file says so itself; the note stays when
// somebody puts a backup of the file in its place, or removes it, and an agent still has the old configuration.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace kveil::keys {

// On disk when it returns. `target`: for people. kUnavailable: it cannot be written.
absl::Status NoteMoved(const std::string& path, const std::string& target);

// OK; kFailedPrecondition: there is a note, whatever lies at `path` now; kUnavailable: whether there is one cannot be
// seen now.
absl::Status RefuseIfMoved(const std::string& path);

}  // namespace kveil::keys
