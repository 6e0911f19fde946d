// Makes and removes the agent's cgroup.
#include "intercept/system/agent_cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/text.h"

namespace kveil::intercept {

absl::StatusOr<AgentCgroup> AgentCgroup::Make(const std::string& parent, const std::string& name) {
  const std::string path = StrCat(parent, "/", name);
  if (::mkdir(path.c_str(), 0755) < 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(StrCat("cannot make the cgroup ", path, ": ", std::strerror(errno)));
  }
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return absl::FailedPreconditionError(StrCat("cannot open the cgroup ", path, ": ", std::strerror(errno)));
  }
  return AgentCgroup(path, std::move(fd));
}

uint64_t AgentCgroup::id() const {
  struct stat info;
  return ::fstat(fd_.get(), &info) == 0 ? info.st_ino : 0;
}

absl::Status AgentCgroup::Repair() {
  struct stat there;
  struct stat ours;
  if (::fstat(fd_.get(), &ours) == 0 && ::stat(path_.c_str(), &there) == 0 && there.st_ino == ours.st_ino) {
    return absl::OkStatus();
  }
  if (::mkdir(path_.c_str(), 0755) < 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(
        StrCat("the cgroup ", path_, " is gone and cannot be made again: ", std::strerror(errno)));
  }
  const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::dup3(fd.get(), fd_.get(), O_CLOEXEC) < 0) {
    return absl::FailedPreconditionError(StrCat("cannot open the cgroup ", path_, ": ", std::strerror(errno)));
  }
  log::Warning("intercept.agentCgroup", {{"madeAnew", path_}});
  return absl::OkStatus();
}

AgentCgroup::~AgentCgroup() {
  if (fd_.valid()) ::rmdir(path_.c_str());
}

}  // namespace kveil::intercept
