// Lets pods onto the node once the agent protects it.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/stop_signal.h"
#include "kubernetes/api_server.h"

namespace kveil::kubernetes {

// A node joins the cluster with a taint, by the kubelet's `--register-with-taints`, that keeps pods away. This takes it
// away when the agent is ready for the first time, on a thread of its own that ends with that. Whoever starts pods
// earlier tolerates the taint.
class StartupTaint {
 public:
  struct Options {
    ApiServerOptions apiServer;
    std::string node;
    std::string key;  // of the taint, "kveil.io/agent-not-ready"
    std::function<bool()> isReady;
    std::chrono::milliseconds lookEvery{200};
    std::chrono::milliseconds requestTimeout{10'000};
    std::chrono::milliseconds firstPause{200};  // after an attempt that failed; doubled up to the longest one
    std::chrono::milliseconds longestPause{10'000};
  };

  explicit StartupTaint(Options options);
  ~StartupTaint();
  StartupTaint(const StartupTaint&) = delete;
  StartupTaint& operator=(const StartupTaint&) = delete;

  // Not OK: the taint should be away, and is not, with the reason. Any thread.
  absl::Status Health() const;

 private:
  void Run();
  absl::Status Remove() const;

  const Options options_;
  ApiServer server_;

  StopSignal stop_;
  mutable Mutex mutex_;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace kveil::kubernetes
