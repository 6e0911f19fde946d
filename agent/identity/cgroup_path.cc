// Text only: nothing here asks the kernel.
#include "identity/cgroup_path.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"

namespace kveil::identity {
namespace {

bool IsUnit(absl::string_view component) {
  for (const absl::string_view suffix : {".service", ".scope", ".socket", ".mount", ".swap"}) {
    if (component.size() > suffix.size() && absl::EndsWith(component, suffix)) return true;
  }
  return false;
}

bool IsSlice(absl::string_view component) { return absl::EndsWith(component, ".slice"); }

bool IsPods(absl::string_view component) {
  return component == "kubepods" || absl::StartsWith(component, "kubepods.") ||
         absl::StartsWith(component, "kubepods-") || absl::EndsWith(component, "-kubepods.slice");
}

bool IsUserManager(absl::string_view unit) {
  return absl::StartsWith(unit, "user@") && absl::EndsWith(unit, ".service");
}

// systemd puts "_" before a name that would be mistaken for one of the cgroup file system's own (cg_escape).
absl::string_view Unescaped(absl::string_view component) {
  absl::ConsumePrefix(&component, "_");
  return component;
}

}  // namespace

bool IsBelow(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

std::string UnitOf(std::string_view cgroupPath) {
  std::string manager;
  for (absl::string_view component : absl::StrSplit(ToAbsl(cgroupPath), '/', absl::SkipEmpty())) {
    component = Unescaped(component);
    if (IsPods(component)) return "";
    if (IsSlice(component)) continue;
    // Only slices stand above a unit of the node's systemd. Below anything else (a container's directory) whoever owns
    // that chooses the names.
    if (!IsUnit(component)) return manager;
    if (!manager.empty()) return StrCat(manager, "/", component);
    if (!IsUserManager(component)) return std::string(component);
    manager = std::string(component);
  }
  return manager;
}

std::string ShareOf(std::string_view cgroupPath, std::string_view intercepted, int level,
                    const std::function<bool(const std::string& path)>& isDelegated) {
  size_t end = 0;
  if (intercepted != "/" && IsBelow(cgroupPath, intercepted)) end = intercepted.size();
  for (int i = 0; i < level && end < cgroupPath.size(); ++i) {
    if (end > 0 && isDelegated(std::string(cgroupPath.substr(0, end)))) break;
    end = std::min(cgroupPath.find('/', end + 1), cgroupPath.size());
  }
  return std::string(cgroupPath.substr(0, end));
}

}  // namespace kveil::identity
