#include "kubernetes/startup_taint.h"

#include <sys/prctl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "http/jitter.h"
#include "kubernetes/messages.h"

namespace kveil::kubernetes {

using std::chrono::milliseconds;

StartupTaint::StartupTaint(Options options) : options_(std::move(options)), server_(options_.apiServer) {
  thread_ = std::thread([this] {
    ::prctl(PR_SET_NAME, "kveil-taint");
    Run();
  });
}

StartupTaint::~StartupTaint() {
  stop_.Stop();
  server_.Stop();
  thread_.join();
}

absl::Status StartupTaint::Health() const {
  const MutexLock lock(mutex_);
  return health_;
}

void StartupTaint::Run() {
  while (!options_.isReady()) {
    if (!stop_.Sleep(options_.lookEvery)) return;
  }
  for (milliseconds pause = options_.firstPause;; pause = std::min(2 * pause, options_.longestPause)) {
    absl::Status status = Remove();
    const bool isDone = status.ok();
    {
      const MutexLock lock(mutex_);
      health_ = std::move(status);
    }
    if (isDone || !stop_.Sleep(http::UpTo(pause))) return;
  }
}

absl::Status StartupTaint::Remove() const {
  const std::string path = StrCat("/api/v1/nodes/", options_.node);
  const auto deadline = std::chrono::steady_clock::now() + options_.requestTimeout;
  ASSIGN_OR_RETURN(const crypto::SecretText node, server_.Get(path, deadline));
  ASSIGN_OR_RETURN(const std::optional<std::string> patch, PatchWithoutTaint(crypto::AsText(node), options_.key));
  if (!patch.has_value()) return absl::OkStatus();
  RETURN_IF_ERROR(server_.Patch(path, *patch, deadline));
  log::Info("kubernetes.taintRemoved", {{"node", options_.node}, {"taint", options_.key}});
  return absl::OkStatus();
}

}  // namespace kveil::kubernetes
