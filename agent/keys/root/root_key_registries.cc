#include "keys/root/root_key_registries.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_split.h"
#include "base/sync_folder.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::keys {
namespace {

constexpr size_t kLongestFile = 4096;

absl::Status RefuseErrno(const std::string& list, std::string_view doing) {
  return absl::FailedPreconditionError(
      StrCat("which registries use the root key file is not known: ", list, " ", doing, ": ", std::strerror(errno)));
}

std::string FolderOf(const std::string& list) {
  const size_t slash = list.rfind('/');
  return slash == std::string::npos ? "." : list.substr(0, slash + 1);
}

std::string ListOf(const std::string& path) { return path + ".registries"; }

}  // namespace

void ForgetRegistries(const std::string& path) { (void)::unlink(ListOf(path).c_str()); }

absl::Status NoteOnlyRegistry(const std::string& path, std::string_view registry) {
  const std::string list = ListOf(path);
  const UniqueFd fd(::open(list.c_str(), O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  // Then the root key file cannot be replaced either, and whoever tries says so.
  if (!fd.valid() && (errno == EROFS || errno == EACCES || errno == EPERM)) return absl::OkStatus();
  if (!fd.valid()) return RefuseErrno(list, "cannot be opened");
  std::array<char, kLongestFile> text;
  const ssize_t size = ::pread(fd.get(), text.data(), text.size(), 0);
  if (size < 0) return RefuseErrno(list, "cannot be read");
  bool isNoted = false;
  bool hasOthers = static_cast<size_t>(size) == text.size();  // there may be more behind
  const absl::string_view lines(text.data(), static_cast<size_t>(size));
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    (ToStd(line) == registry ? isNoted : hasOthers) = true;
  }
  if (!isNoted) {
    const std::string line = StrCat(registry, "\n");
    if (::write(fd.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()) || ::fsync(fd.get()) != 0) {
      return RefuseErrno(list, "cannot be written");
    }
    if (!SyncFolder(FolderOf(list))) return RefuseErrno(list, "cannot be made durable");
  }
  if (!hasOthers) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(
      "root key file ", path, " also opens another registry, so it keeps what opens old copies of this one: give each ",
      "registry a root key file of its own, or take the line of one that is gone out of ", list));
}

}  // namespace kveil::keys
