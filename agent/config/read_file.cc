// Reads small text files whole, and lists the policy files of a folder.
#include "config/read_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
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

std::string PathIn(const std::string& folder, std::string_view name) {
  return StrCat(folder, folder.ends_with("/") ? "" : "/", name);
}

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool IsInside(const std::string& path, const std::string& folder) {
  const auto written = [](const std::string& text) { return std::filesystem::path(text).lexically_normal(); };
  // Without a slash at the end, which would be an element of its own.
  const std::filesystem::path inner = written(path), outer = written(folder + "/").parent_path();
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

absl::StatusOr<std::vector<std::string>> FilesOfFolder(const std::string& folder, std::string_view ending,
                                                       size_t most) {
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return absl::ErrnoToStatus(errno, StrCat(folder, ": cannot read the folder"));
  const absl::Cleanup close = [directory] { ::closedir(directory); };
  std::vector<std::string> files;
  size_t entries = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (++entries > most) {
      return absl::InvalidArgumentError(StrCat(folder, ": expected at most ", most, " files in the folder"));
    }
    if (name[0] != '.' && name.ends_with(ending)) files.push_back(PathIn(folder, name));
  }
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
