// Watches a folder, and its name in the folder above, with inotify(7).
#include "config/folder_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "config/read_file.h"

namespace kveil::config {
namespace {

// IN_MOVED_TO is what a ConfigMap's update looks like: ..data is renamed over the old one, the files link through it.
constexpr uint32_t kFolderEvents = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB |
                                   IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr uint32_t kParentEvents = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR;

// Of policy files, lists of users, and a manifest and its signature.
constexpr std::array<std::string_view, 4> kEndings = {".json", ".txt", ".manifest", ".sig"};

std::string WithoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

FolderWatch::FolderWatch(std::string folder, UniqueFd inotify, UniqueFd stop)
    : folder_(WithoutSlashes(std::move(folder))), inotify_(std::move(inotify)), stop_(std::move(stop)) {
  const size_t slash = folder_.rfind('/');
  parent_ = slash == std::string::npos ? "." : slash == 0 ? "/" : folder_.substr(0, slash);
  name_ = slash == std::string::npos ? folder_ : folder_.substr(slash + 1);
}

absl::StatusOr<FolderWatch> FolderWatch::Open(std::string folder) {
  UniqueFd inotify(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify.valid()) {
    return absl::InternalError(StrCat("cannot watch ", folder, ": ", absl::ErrnoToStatus(errno, "inotify").message(),
                                      "; raise fs.inotify.max_user_instances"));
  }
  UniqueFd stop(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!stop.valid()) return absl::InternalError(absl::ErrnoToStatus(errno, "eventfd").message());
  FolderWatch watch(std::move(folder), std::move(inotify), std::move(stop));
  watch.Rearm();
  return watch;
}

void FolderWatch::Rearm() {
  // Adding a watch to an inode that has one gives the same number again; another number means another folder.
  const auto follow = [this](int& watch, const std::string& path, uint32_t events) {
    const int now = ::inotify_add_watch(inotify_.get(), path.c_str(), events);
    if (now != watch && watch >= 0) ::inotify_rm_watch(inotify_.get(), watch);
    watch = now;
  };
  follow(parentWatch_, parent_, kParentEvents);
  follow(folderWatch_, folder_, kFolderEvents);
}

bool FolderWatch::DrainEvents() {
  bool changed = false;
  alignas(inotify_event) char buffer[16384];
  while (true) {
    const ssize_t size = ::read(inotify_.get(), buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return changed;
    for (ssize_t offset = 0; offset < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + offset);
      offset += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      const bool ofParent = event->wd == parentWatch_ && (event->mask & IN_Q_OVERFLOW) == 0;
      changed = changed || !ofParent || (event->len > 0 && name_ == event->name);
    }
  }
}

FolderWatch::Event FolderWatch::Wait(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waited[] = {{inotify_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    ::poll(waited, 2, static_cast<int>(std::clamp<int64_t>(left.count(), 0, INT32_MAX)));
    if (waited[1].revents != 0) return Event::kStopped;
    if (waited[0].revents != 0 && DrainEvents()) return Event::kChanged;
    if (std::chrono::steady_clock::now() >= deadline) return Event::kTimeout;
  }
}

void FolderWatch::Stop() {
  const uint64_t one = 1;
  // Cannot fail in a way that matters: a full counter wakes the reader too.
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof(one));
}

std::string FolderFingerprint(const std::string& folder) {
  std::string fingerprint;
  for (const std::string& file : FilesOfFolder(folder, "").value_or(std::vector<std::string>())) {
    const bool counts =
        std::any_of(kEndings.begin(), kEndings.end(), [&](std::string_view ending) { return file.ends_with(ending); });
    if (counts) fingerprint += FileFingerprint(file);
  }
  return fingerprint;
}

std::string FileFingerprint(const std::string& file) {
  struct stat facts = {};
  if (::stat(file.c_str(), &facts) != 0) facts = {};
  return StrCat(file, " ", facts.st_dev, " ", facts.st_ino, " ", facts.st_size, " ", facts.st_mtim.tv_sec, ".",
                facts.st_mtim.tv_nsec, " ", facts.st_ctim.tv_sec, ".", facts.st_ctim.tv_nsec, "\n");
}

}  // namespace kveil::config
