#include "keys/registry/moved_note.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/sync_folder.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::keys {
namespace {

std::string NotePath(const std::string& path) { return path + ".moved"; }

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

}  // namespace

absl::Status NoteMoved(const std::string& path, const std::string& target) {
  const std::string note = NotePath(path);
  const UniqueFd file(::open(note.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  const std::string text = StrCat(target, "\n");
  const bool isWritten = file.valid() &&
                         ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                         ::fsync(file.get()) == 0 && SyncFolder(FolderOf(note));
  if (isWritten) return absl::OkStatus();
  return absl::UnavailableError(StrCat(note, " cannot be written: ", std::strerror(errno)));
}

absl::Status RefuseIfMoved(const std::string& path) {
  const std::string note = NotePath(path);
  struct stat info;
  if (::lstat(note.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return absl::OkStatus();
    return absl::UnavailableError(StrCat(note, " cannot be looked for: ", std::strerror(errno)));
  }
  std::array<char, 1024> text;
  const UniqueFd file(::open(note.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  const ssize_t size = file.valid() ? ::read(file.get(), text.data(), text.size()) : 0;
  std::string_view target(text.data(), size > 0 ? static_cast<size_t>(size) : 0);
  target = target.substr(0, target.find('\n'));
  return absl::FailedPreconditionError(
      StrCat("registry ", path, " was moved to ", target.empty() ? "another place" : target, " (", note,
             " says so), and what is there now is older: it knows no erasure since. Name the other one as "
             "keys.registry. If that one is lost for good, or this is to be a new one, remove the note, and repeat "
             "all erasures"));
}

}  // namespace kveil::keys
