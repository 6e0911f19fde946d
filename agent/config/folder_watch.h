// Tells when a folder's files may have changed: written, renamed, removed, added, or the folder itself exchanged.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::config {

// Used by one thread, but for Stop.
class FolderWatch {
 public:
  // kInternal when inotify is not to be had. A folder that is missing now is noticed when it comes.
  static absl::StatusOr<FolderWatch> Open(std::string folder);

  enum class Event { kChanged, kTimeout, kStopped };
  // Waits for a change. Takes every event that is there, so one answer can stand for many changes.
  Event Wait(std::chrono::milliseconds timeout);

  // Looks again at where the folder is; call it before the files are read, so that no change between is missed.
  void Rearm();

  // Ends a Wait, and every later one. Any thread.
  void Stop();

 private:
  FolderWatch(std::string folder, UniqueFd inotify, UniqueFd stop);
  bool DrainEvents();

  std::string folder_;
  std::string parent_;
  std::string name_;  // of the folder in its parent
  UniqueFd inotify_;
  UniqueFd stop_;
  int folderWatch_ = -1;
  int parentWatch_ = -1;
};

// What can be seen of a folder's policy files without reading them: names, inodes, sizes and times.
std::string FolderFingerprint(const std::string& folder);

}  // namespace kveil::config
