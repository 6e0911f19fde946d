// Making and removing the agent's cgroup.
#include "intercept/agent_cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

AgentCgroup::~AgentCgroup() {
  if (fd_.valid()) ::rmdir(path_.c_str());
}

}  // namespace kveil::intercept
