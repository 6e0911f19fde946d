// Reads small files of /proc and of the cgroup file system.
#include "intercept/system/read_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno)));
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t length = ::read(fd.get(), buffer, sizeof(buffer));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno)));
    if (length == 0) return text;
    text.append(buffer, static_cast<size_t>(length));
  }
}

}  // namespace kveil::intercept
