#include "cli/agent_command.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/text.h"
#include "bundle/accepted_version.h"
#include "bundle/signature.h"
#include "cli/common.h"
#include "cli/protect_memory.h"
#include "cli/words.h"
#include "config/read_file.h"
#include "crypto/secret_file.h"
#include "daemon/agent.h"
#include "daemon/key_store.h"
#include "daemon/preflight.h"
#include "daemon/reloader.h"
#include "daemon/service_manager.h"
#include "fdstore/client.h"
#include "policy/policy.h"
#include "policy/signed_policies.h"
#include "tls/client_tls.h"
#include "tls/cluster_tls.h"

namespace kveil::cli {
namespace {

// Each connection takes two; the rest is for listeners (four to six a network namespace), the kernel half, files and
// callers.
constexpr rlim_t kSmallestRest = 256;

size_t ConnectionsWith(rlim_t descriptors) {
  const rlim_t rest = std::max(kSmallestRest, descriptors / 16);
  return descriptors > rest + 2 ? (descriptors - rest) / 2 : 1;
}

rlim_t DescriptorsFor(size_t connections) {
  return std::max(2 * connections + kSmallestRest, connections * 32 / 15 + 16);
}

// How long everything may take to end after the drain timeout.
constexpr std::chrono::seconds kEndLimit{1};

// To what the configured connections take, where that is allowed; otherwise as far as it goes, and there may be fewer
// connections.
void RaiseDescriptorLimit(config::AgentConfig& config) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_max = std::max<rlim_t>(limit.rlim_max, DescriptorsFor(config.limits.connections));
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const size_t possible = ConnectionsWith(limit.rlim_max);
  if (possible >= config.limits.connections) return;
  log::Warning("limits.lowered", {{"connections", possible},
                                  {"configured", config.limits.connections},
                                  {"reason", StrCat("RLIMIT_NOFILE is ", limit.rlim_max,
                                                    " and may not be raised; for all "
                                                    "of them it has to be ",
                                                    DescriptorsFor(config.limits.connections))}});
  config.limits.connections = possible;
}

sigset_t BlockSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return signals;
}

// What the first pull needs, before the server is asked.
absl::Status CheckPull(const config::PullConfig& pull, const policy::Trust& trust, const std::string& folder) {
  absl::Status status = bundle::ReadKeys(trust.keys, folder).status();
  status.Update(bundle::AcceptedVersion(trust.accepted, trust.minimumVersion).CheckFile());
  for (const std::string& path : {pull.ca, pull.certificate}) {
    if (!path.empty()) status.Update(config::ReadTextFile(path).status());
  }
  if (!pull.key.empty()) status.Update(crypto::ReadSecretFile(pull.key).status());
  if (!pull.tokenFile.empty()) status.Update(crypto::ReadSecret(pull.tokenFile).status());
  return status;
}

// As a user who could not run an agent anyhow, one may still check files.
int CheckThisMachine(const config::AgentConfig& config) {
  const absl::Status capabilities = daemon::CheckCapabilities(config);
  if (!capabilities.ok() && ::geteuid() != 0) {
    std::cout << "whether an agent can run on this machine was not checked; " << ToStd(capabilities.message()) << "\n";
    return 0;
  }
  daemon::EnterHostCgroupNamespace();
  absl::Status machine = daemon::CheckMachine(config);
  if (machine.ok()) machine = capabilities;
  if (machine.ok()) {
    std::cout << "this machine: an agent can run\n";
    return 0;
  }
  return Fail("agent",
              absl::Status(machine.code(), StrCat("no agent can run on this machine: ", ToStd(machine.message()))));
}

// Where nothing else keeps descriptors for the next agent, as in a pod, `kveil fdstore` does.
std::unique_ptr<fdstore::Client> StoreOfEnvironment() {
  const char* const path = ::getenv("KVEIL_FDSTORE");
  if (path == nullptr || *path == '\0') return nullptr;
  return std::make_unique<fdstore::Client>(path);
}

// Ends the process when draining has not by then: a thread may be waiting for something that does not come, such as a
// name server. Whatever is lost with it would be lost in a crash, too, and nothing is.
void EndAtTheLatest(std::chrono::milliseconds after) {
  std::thread([after] {
    std::this_thread::sleep_for(after);
    log::Warning("agent.ended", {{"reason", "something did not end in time, and was left"}});
    log::Flush();
    ::_exit(0);
  }).detach();
}

}  // namespace

int RunAgent(const std::string& configPath) {
  absl::StatusOr<config::AgentConfig> config = config::LoadConfig(configPath);
  if (!config.ok()) return Fail("agent", config.status());
  log::SetLevel(config->logLevel);
  log::SetLayout(config->logLayout);
  ProtectMemory();  // of keys
  daemon::Reloader reloader(configPath, *config);
  RaiseDescriptorLimit(*config);
  // Before any thread is made, so that all of them are in the namespace and have these signals blocked: only the wait
  // below gets them.
  daemon::EnterHostCgroupNamespace();
  const sigset_t signals = BlockSignals();
  daemon::ServiceManager manager(daemon::ServiceManager::TakeEnvironment());

  const std::unique_ptr<fdstore::Client> fdstore = StoreOfEnvironment();
  absl::StatusOr<std::unique_ptr<daemon::Agent>> agent =
      daemon::Agent::Start(*std::move(config), manager, reloader, fdstore.get());
  if (!agent.ok()) return Fail("agent", agent.status());
  log::Info("agent.ready", {{"version", KVEIL_VERSION}});
  const timespec second{1, 0};
  for (;;) {
    const int signal = ::sigtimedwait(&signals, nullptr, &second);
    if (signal > 0 && signal != SIGHUP) {
      log::Info("agent.draining", {{"signal", signal}});
      ::signal(SIGHUP, SIG_IGN);
      ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // the second one ends the agent at once
      break;
    }
    if (signal == SIGHUP) (void)(*agent)->Reload();
    (*agent)->Watch();  // also between signals that come faster than once a second
  }
  manager.Stopping((*agent)->drainTimeout() + kEndLimit);
  EndAtTheLatest((*agent)->drainTimeout() + kEndLimit);
  (*agent)->Drain();
  agent->reset();
  log::Info("agent.ended");
  return 0;
}

int CheckAgentFiles(const std::string& configPath) {
  const absl::StatusOr<config::AgentConfig> config = config::LoadConfig(configPath);
  if (!config.ok()) return Fail("agent", config.status());
  const std::optional<policy::Trust> trust = policy::TrustOf(*config);
  const std::optional<config::PullConfig>& pull = config->policies.pull;
  if (pull.has_value()) {
    const absl::Status able = CheckPull(*pull, *trust, config->policies.folder);
    if (!able.ok()) return Fail("agent", able);
  }
  const absl::StatusOr<std::shared_ptr<const policy::Policy>> policies =
      policy::LoadPolicies(config->policies.folder, trust);
  if (!policies.ok() && !pull.has_value()) return Fail("agent", policies.status());
  if (policies.ok()) {
    const absl::Status fits = policy::CheckKekProviders(**policies, config->keys.kekProviders);
    if (!fits.ok()) return Fail("agent", fits);
  }
  const bool wasPulled = ::access(config->policies.folder.c_str(), F_OK) == 0;
  if (!policies.ok() && wasPulled) {
    Warn("agent", StrCat("what was pulled last cannot be used: ", ToStd(policies.status().message())));
  }
  const absl::StatusOr<std::unique_ptr<tls::ClusterTls>> tls = tls::ClusterTls::Load(config->clusters);
  if (!tls.ok()) return Fail("agent", tls.status());
  const absl::StatusOr<std::unique_ptr<tls::ClientTls>> clientTls = tls::ClientTls::Load(config->clusters);
  if (!clientTls.ok()) return Fail("agent", clientTls.status());
  const absl::Status rootKey = daemon::CheckRootKeyFiles(config->keys);
  if (!rootKey.ok()) return Fail("agent", rootKey);
  const std::string passed = config::WarningOfPassedTls(config->clusters);
  if (!passed.empty()) Warn("agent", passed);
  const size_t files = policies.ok() ? (*policies)->fileCount() : 0;
  std::cout << configPath << ": good, with " << CountText(files, "policy file") << " of " << config->policies.folder
            << (policies.ok() ? "" : ", which the agent pulls when it starts") << "\n";
  return CheckThisMachine(*config);
}

}  // namespace kveil::cli
