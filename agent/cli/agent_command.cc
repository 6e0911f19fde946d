#include "cli/agent_command.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "base/log.h"
#include "cli/agent.h"
#include "cli/common.h"

namespace kveil::cli {
namespace {

// Keys are in this process's memory: no core dump, and no other process of the same user may read it.
void ProtectMemory() {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

// Each connection takes two descriptors.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

sigset_t BlockEndSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return signals;
}

}  // namespace

int RunAgent(const std::string& configPath) {
  absl::StatusOr<policy::AgentConfig> config = policy::LoadConfig(configPath);
  if (!config.ok()) return Fail("agent", config.status());
  log::SetLevel(config->logLevel);
  ProtectMemory();
  RaiseDescriptorLimit();
  // Before any thread is made, so that all of them have these signals blocked and only the wait below gets them.
  const sigset_t endSignals = BlockEndSignals();

  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(*std::move(config));
  if (!agent.ok()) return Fail("agent", agent.status());
  log::Info("agent.ready", {{"version", KVEIL_VERSION}});
  const timespec second{1, 0};
  for (;;) {
    const int signal = ::sigtimedwait(&endSignals, nullptr, &second);
    if (signal > 0) {
      log::Info("agent.draining", {{"signal", signal}});
      ::pthread_sigmask(SIG_UNBLOCK, &endSignals, nullptr);  // the second one ends the agent at once
      break;
    }
    (*agent)->Watch();
  }
  (*agent)->Drain();
  log::Info("agent.ended");
  return 0;
}

}  // namespace kveil::cli
