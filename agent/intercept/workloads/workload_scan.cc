// Walks the cgroup file system.
#include "intercept/workloads/workload_scan.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/text.h"
#include "intercept/system/agent_cgroup.h"
#include "intercept/system/network_namespace.h"

namespace kveil::intercept {
namespace {

// The kernel's own limit is far above any real tree; a bound for the descriptors that the way takes.
constexpr size_t kDeepestLevel = 64;

// Of cgroup.procs, at once: some hundred processes.
constexpr size_t kReadSize = 512;

}  // namespace

absl::StatusOr<Witness> Watch(pid_t pid, std::string file) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return absl::NotFoundError(StrCat("cannot watch process ", pid, ": ", std::strerror(errno)));
  return Witness{.pid = pid, .file = std::move(file), .pidFd = std::move(fd)};
}

WorkloadScan::WorkloadScan(const CgroupTree& cgroups, bool seesAll) : cgroups_(cgroups), seesAll_(seesAll) {
  Enter(cgroups.path());
}

bool WorkloadScan::GoOn(Clock::time_point end) {
  do {
    if (levels_.empty()) return true;
    processes_.valid() ? ReadProcesses() : EnterNext();
  } while (Clock::now() < end);
  return levels_.empty();
}

void WorkloadScan::Enter(const std::string& directory) {
  path_ = directory;
  processes_ = UniqueFd(::open(StrCat(directory, "/cgroup.procs").c_str(), O_RDONLY | O_CLOEXEC));
  if (!processes_.valid()) NoteError(errno);
  partOfLine_.clear();
  isAtStart_ = true;
  const bool isTooDeep = levels_.size() > kDeepestLevel;
  DIR* const opened = isTooDeep ? nullptr : ::opendir(directory.c_str());
  if (opened == nullptr && !isTooDeep) NoteError(errno);
  levels_.push_back({.directory = std::unique_ptr<DIR, CloseDirectory>(opened), .pathLength = directory.size()});
}

// The next directory below the last level; without one, the level above is the last.
void WorkloadScan::EnterNext() {
  const Level& level = levels_.back();
  path_.resize(level.pathLength);
  errno = 0;
  const dirent* const entry = level.directory ? ::readdir(level.directory.get()) : nullptr;
  if (entry == nullptr) {
    NoteError(errno);
    levels_.pop_back();
    return;
  }
  const std::string_view name = entry->d_name;
  const bool isAgents = levels_.size() == 1 && name == AgentCgroup::kName;
  if (entry->d_type == DT_DIR && name != "." && name != ".." && !isAgents) Enter(StrCat(path_, "/", name));
}

void WorkloadScan::NoteError(int error) {
  switch (error) {
    case 0:
    case ENOENT:  // gone meanwhile
    case ENODEV:
    case EOPNOTSUPP:    // a threaded cgroup: its domain lists the processes
    case ENAMETOOLONG:  // anyone who makes cgroups can cause this, by going deeper than kDeepestLevel
      return;
    default:
      problem_.Update(
          absl::UnavailableError(StrCat("cannot see all processes below ", path_, ": ", std::strerror(error))));
  }
}

void WorkloadScan::ReadProcesses() {
  char buffer[kReadSize];
  const ssize_t length = ::read(processes_.get(), buffer, sizeof(buffer));
  if (length < 0 && errno == EINTR) return;
  if (length <= 0) {
    if (length < 0) NoteError(errno);
    processes_.Reset();
    return;
  }
  // Between two reads the kernel keeps the process that did not fit into the first. If it has been reaped meanwhile it
  // is a 0, too: the line that begins the second.
  bool mayBeReaped = !std::exchange(isAtStart_, false);
  std::string_view rest(buffer, static_cast<size_t>(length));
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    const bool isOfThisRead = partOfLine_.empty();
    partOfLine_.append(rest.substr(0, end));
    int pid = 0;
    const bool isNumber = absl::SimpleAtoi(partOfLine_, &pid);
    partOfLine_.clear();
    const bool wasKept = isOfThisRead && std::exchange(mayBeReaped, false);
    if (!isNumber) continue;
    if (pid != 0) {
      Visit(pid);
    } else if (!seesAll_ && !wasKept) {
      ++hidden_;
    }
  }
  partOfLine_.append(rest);
}

void WorkloadScan::Visit(int pid) {
  const uint64_t inode = NamespaceInode(NamespaceFile(pid));  // 0 for a zombie, too
  if (inode == 0) return;
  Resident& resident = found_[inode];
  if (resident.pid == 0 || pid < resident.pid) resident = {.pid = pid, .cgroupPath = cgroups_.PathFromRoot(path_)};
}

}  // namespace kveil::intercept
