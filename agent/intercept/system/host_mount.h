// Tells whether a mounted file system is the host's, or belongs to this process's mount namespace alone.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace kveil::intercept {

// OK if process 1 has the file system of `path` mounted, too, anywhere. kFailedPrecondition: it does not, so the file
// system and all pins in it end with this process's mount namespace. kPermissionDenied: process 1 cannot be looked at.
absl::Status CheckIsMountedByHost(const std::string& path);

// A warning if process 1 may be a container's and not the host's, so that the check above says little: this process is
// in a pid namespace of its own, and shares the mount namespace of that namespace's process 1. Empty otherwise.
std::string ContainerWarning();

// Whether this process is in the outermost pid namespace, in which every process has a number.
bool IsInFirstPidNamespace();

// Whether a text in the form of /proc/PID/mountinfo names a file system with this device number.
bool HasDevice(std::string_view mountinfo, unsigned major, unsigned minor);

}  // namespace kveil::intercept
