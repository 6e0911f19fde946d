// `kveil fdstore`: the process that keeps listeners for agents that no service manager does that for.
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <csignal>
#include <memory>

#include "base/log.h"
#include "base/unique_fd.h"
#include "cli/common.h"
#include "cli/protect_memory.h"
#include "fdstore/server.h"

namespace kveil::cli {

int RunFdstore(const FdstoreOptions& options) {
  // Whoever has a listener can accept workloads' connections. This process has no capability, so to any other of root
  // it would be open.
  ProtectMemory();
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  // Also as process 1 of a container, to which signals that have no handler are not delivered.
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd end(::signalfd(-1, &signals, SFD_CLOEXEC));
  const absl::StatusOr<std::unique_ptr<fdstore::Server>> server =
      fdstore::Server::Listen({.path = options.path, .keepFor = std::chrono::seconds(options.keepForSeconds)});
  if (!server.ok()) return Fail("fdstore", server.status());
  log::Info("fdstore.ready", {{"socket", options.path}});
  (*server)->Run(end.get());
  return 0;
}

}  // namespace kveil::cli
