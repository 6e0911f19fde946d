#include "io/ring_refusal.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "base/text.h"

namespace kveil::io {
namespace {

constexpr std::string_view kSeccompRemedy =
    "give the agent a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register (Kubernetes: "
    "seccompProfile type Localhost or Unconfined; container runtimes no longer allow them by default)";

// The value of a line "name:\tvalue" of /proc/self/status, or "".
std::string StatusLine(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.size() <= name.size() || line.compare(0, name.size(), name) != 0 || line[name.size()] != ':') continue;
    const size_t value = line.find_first_not_of(" \t", name.size() + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

std::string ExplainForbidden(const RingRefusal& refusal) {
  if (refusal.ioUringDisabled == 2) {
    return "io_uring is switched off for everybody: kernel.io_uring_disabled is 2; run sysctl "
           "kernel.io_uring_disabled=1 "
           "(or 0) on the node";
  }
  if (refusal.ioUringDisabled == 1 && !refusal.systemAdministrator) {
    return "io_uring is kept for privileged processes: kernel.io_uring_disabled is 1; run the agent with "
           "CAP_SYS_ADMIN, put "
           "its group into kernel.io_uring_group, or set kernel.io_uring_disabled to 0";
  }
  if (refusal.seccompFilter) return StrCat("io_uring is forbidden by a seccomp filter: ", kSeccompRemedy);
  return "io_uring is forbidden, though neither kernel.io_uring_disabled nor a seccomp filter does it: look for a rule "
         "of a "
         "security module (SELinux, AppArmor, BPF LSM) in the audit log";
}

std::string ExplainAbsent(const RingRefusal& refusal) {
  if (refusal.seccompFilter) return StrCat("io_uring is hidden by a seccomp filter (ENOSYS): ", kSeccompRemedy);
  return "this kernel was built without io_uring (CONFIG_IO_URING); kernel 6.1 or newer with it is needed";
}

std::string ExplainRefusal(const RingRefusal& refusal) {
  switch (refusal.error) {
    case EPERM:
    case EACCES:
      return ExplainForbidden(refusal);
    case ENOSYS:
      return ExplainAbsent(refusal);
    case ENOMEM:
      return StrCat("no memory for an io_uring: RLIMIT_MEMLOCK is ", refusal.lockedMemoryLimit,
                    " bytes; raise it (systemd: LimitMEMLOCK=infinity), or the memory limit of the agent's cgroup");
    case EINVAL:
      return "this kernel's io_uring lacks IORING_SETUP_SINGLE_ISSUER or IORING_SETUP_DEFER_TASKRUN; kernel 6.1 or "
             "newer is "
             "needed";
    case EMFILE:
    case ENFILE:
      return "no file descriptor is left for an io_uring; raise RLIMIT_NOFILE (systemd: LimitNOFILE=) or fs.file-max";
    default:
      return "no io_uring could be made";
  }
}

}  // namespace

RingRefusal RingRefusal::Of(int error) {
  RingRefusal refusal;
  refusal.error = error;
  std::ifstream("/proc/sys/kernel/io_uring_disabled") >> refusal.ioUringDisabled;
  constexpr int kCapSysAdmin = 21;
  const uint64_t effective = std::strtoull(StatusLine("CapEff").c_str(), nullptr, 16);
  refusal.systemAdministrator = (effective >> kCapSysAdmin & 1) != 0;
  refusal.seccompFilter = StatusLine("Seccomp") == "2";
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0) refusal.lockedMemoryLimit = limit.rlim_cur;
  return refusal;
}

absl::Status Explain(const RingRefusal& refusal) {
  return absl::FailedPreconditionError(StrCat(ExplainRefusal(refusal), " (", std::strerror(refusal.error), ")"));
}

}  // namespace kveil::io
