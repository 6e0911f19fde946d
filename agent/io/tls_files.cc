#include "io/tls_files.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"

namespace kveil::io {

absl::StatusOr<UniqueFd> OpenPem(const std::string& path) {
  UniqueFd opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // it may be a pipe
  if (opened.valid()) return opened;
  return absl::InvalidArgumentError(StrCat(path, ": cannot be read: ", std::strerror(errno)));
}

absl::Status WrongPem(const std::string& path, std::string_view what) {
  const absl::StatusOr<UniqueFd> opened = OpenPem(path);
  return opened.ok() ? absl::InvalidArgumentError(StrCat(path, ": ", what)) : opened.status();
}

int NoPassphrase(char*, int, int, void*) { return -1; }

}  // namespace kveil::io
