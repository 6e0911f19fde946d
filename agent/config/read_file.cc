// Reads small text files whole, and lists the policy files of a folder.
#include "config/read_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::config {
namespace {

absl::Status ErrnoStatus(const std::string& path) { return absl::ErrnoToStatus(errno, StrCat(path, ": cannot read")); }

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t most) {
  // O_NONBLOCK: a FIFO that someone left in the folder must not hold the agent up.
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return ErrnoStatus(path);
  struct stat facts = {};
  if (::fstat(file.get(), &facts) != 0) return ErrnoStatus(path);
  if (!S_ISREG(facts.st_mode)) return absl::InvalidArgumentError(StrCat(path, ": expected a regular file"));

  std::string text;
  char chunk[16384];
  while (true) {
    const ssize_t count = ::read(file.get(), chunk, sizeof(chunk));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(path);
    if (count == 0) return text;
    text.append(chunk, count);
    if (text.size() > most) {
      return absl::InvalidArgumentError(StrCat(path, ": expected at most ", most >> 20, " MiB"));
    }
  }
}

absl::StatusOr<std::vector<std::string>> FilesOfFolder(const std::string& folder, std::string_view ending) {
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return absl::ErrnoToStatus(errno, StrCat(folder, ": cannot read the folder"));
  std::vector<std::string> files;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name[0] == '.' || !name.ends_with(ending)) continue;
    files.push_back(StrCat(folder, folder.ends_with("/") ? "" : "/", name));
  }
  ::closedir(directory);
  std::sort(files.begin(), files.end());
  if (files.empty())
    return absl::NotFoundError(StrCat(folder, ": expected at least one file *", ending, " in the folder"));
  return files;
}

absl::StatusOr<std::vector<std::string>> FilesOf(absl::Span<const std::string> paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    struct stat facts = {};
    if (::stat(path.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) {
      files.push_back(path);
      continue;
    }
    absl::StatusOr<std::vector<std::string>> inside = FilesOfFolder(path);
    if (!inside.ok()) return inside.status();
    files.insert(files.end(), inside->begin(), inside->end());
  }
  return files;
}

}  // namespace kveil::config
