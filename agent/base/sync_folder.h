// The entries of a folder, on disk.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "base/unique_fd.h"

namespace kveil {

// Has what was made, renamed or removed in a folder outlast a power cut. False: errno says why it may not.
inline bool SyncFolder(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.valid() && ::fsync(fd.get()) == 0;
}

}  // namespace kveil
