#include "evidence/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/sync_folder.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::evidence {
namespace {

constexpr size_t kLongest = size_t{64} << 20;

absl::Status Error(const std::string& path) {
  const int error = errno;
  const std::string message = StrCat(path, ": ", std::strerror(error));
  return error == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

absl::Status SyncFolderOf(const std::string& path) {
  return SyncFolder(path.substr(0, path.rfind('/'))) ? absl::OkStatus() : Error(path);
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return Error(path);
  std::string text;
  std::array<char, 16384> piece;
  for (;;) {
    const ssize_t count = ::read(file.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Error(path);
    if (count == 0) return text;
    text.append(piece.data(), static_cast<size_t>(count));
    if (text.size() > kLongest) return absl::UnavailableError(StrCat(path, ": is too long"));
  }
}

absl::Status WriteFile(const std::string& path, std::string_view bytes, mode_t mode) {
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());
  {
    const UniqueFd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (!file.valid()) return Error(fresh);
    for (size_t written = 0; written < bytes.size();) {
      const ssize_t count = ::write(file.get(), bytes.data() + written, bytes.size() - written);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return Error(fresh);
      written += static_cast<size_t>(count);
    }
    if (::fsync(file.get()) != 0) return Error(fresh);
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return Error(path);
  return SyncFolderOf(path);
}

absl::Status RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) == 0) return SyncFolderOf(path);
  return errno == ENOENT ? absl::OkStatus() : Error(path);
}

}  // namespace kveil::evidence
