// Whether a mounted file system is the host's or belongs to this process's mount namespace alone.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace kveil::intercept {

// OK when process 1 has the file system of `path` mounted, too, wherever. kFailedPrecondition: it has not, so the file
// system and whatever is pinned in it end with this process's mount namespace; kPermissionDenied: process 1 may not be
// looked at.
absl::Status CheckIsMountedByHost(const std::string& path);

// A warning in plain words when process 1 may be a container's and not the host's, so that the check above says little:
// this process has a PID namespace of its own, and shares the mount namespace of its first process. Empty otherwise.
std::string ContainerWarning();

// Whether this process is in the pid namespace that all others are below, so that every process has a number for it.
bool IsInFirstPidNamespace();

// Whether a text in the form of /proc/PID/mountinfo names a file system with this device number.
bool HasDevice(std::string_view mountinfo, unsigned major, unsigned minor);

}  // namespace kveil::intercept
