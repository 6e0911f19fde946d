// Tells when a folder's files may have changed: written, renamed, removed, added, or the folder itself replaced.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::config {

// For one thread, except Stop.
class FolderWatch {
 public:
  // kInternal: inotify is not available. A folder that is missing now is noticed when it appears.
  static absl::StatusOr<FolderWatch> Open(std::string folder);

  enum class Event { kChanged, kTimeout, kStopped };
  // Waits for a change. Consumes all events that are there, so one answer can stand for many changes.
  Event Wait(std::chrono::milliseconds timeout);

  // Follows the folder if it was replaced. Call this before reading the files, so that no change in between is missed.
  void Rearm();

  // Ends the current Wait, and every later one. Any thread.
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

// What a folder's policy files, the lists of users beside them, and a manifest and its signature look like without
// reading them: names, inodes, sizes and times. Empty: there is none.
std::string FolderFingerprint(const std::string& folder);

// The same of one file, whether it is there or not.
std::string FileFingerprint(const std::string& file);

}  // namespace kveil::config
