// The pods of this node, kept up to date.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/stop_signal.h"
#include "identity/pod.h"
#include "kubernetes/api_server.h"
#include "kubernetes/messages.h"

namespace kveil::kubernetes {

// Lists the node's pods at the API server, then follows them by a watch; a thread of its own does that, for as long as
// this lives. Pods that are known stay known while the server does not answer.
class PodDirectory {
 public:
  struct Options {
    ApiServerOptions apiServer;
    std::string node;  // the name of this node
    // How long a watch goes on at most before the pods are listed anew, at least half as long. Also how long a
    // connection may be dead without a sign.
    std::chrono::seconds watchTime{120};
    std::chrono::milliseconds requestTimeout{10'000};
    // Of a list, whose pods may be large.
    std::chrono::milliseconds listTimeout{60'000};
    // Between attempts; doubled up to the longest one.
    std::chrono::milliseconds firstPause{200};
    std::chrono::milliseconds longestPause{10'000};
    size_t mostPods = 4096;  // without the mirrors of static pods
    size_t mostMirrors = 64;
  };

  explicit PodDirectory(Options options);
  ~PodDirectory();
  PodDirectory(const PodDirectory&) = delete;
  PodDirectory& operator=(const PodDirectory&) = delete;

  // The pod with this uid, which for a static pod is the hash of its file; nullptr if it is not known (yet), or if
  // several pods claim to be that static pod. Any thread.
  std::shared_ptr<const identity::Pod> Find(std::string_view uid) const;

  // Whether the pods were listed once. Stays true. Any thread.
  bool isFilled() const { return isFilled_; }

  // Not OK: pods that started lately may be unknown, with the reason. Any thread.
  absl::Status Health() const;
  size_t size() const;  // with the mirrors

 private:
  using Clock = std::chrono::steady_clock;
  using Pods = absl::flat_hash_map<std::string, std::shared_ptr<const identity::Pod>>;

  struct Known {
    Pods pods;        // by their uids
    Pods mirrors;     // of static pods, by the uids of their own objects
    Pods staticPods;  // which these stand for, by the hashes; nullptr for several
    bool hasTooManyPods = false;
    bool hasTooManyMirrors = false;
  };

  void Follow();
  absl::Status ListAndWatch(bool& wentOn);
  absl::Status List();
  absl::Status Watch();
  // One line of the watch.
  absl::Status Take(std::string_view line);
  void Keep(PodObject pod, Known& known) const;
  static void Forget(const std::string& object, Known& known);
  std::string Path(std::string_view query) const;
  void Note(absl::Status status);

  const Options options_;
  ApiServer server_;

  // Of the directory's thread: the newest that was seen, "0" at the start. Empty: ask for the newest that there is.
  std::string resourceVersion_ = "0";
  std::atomic<bool> isFilled_{false};

  StopSignal stop_;
  mutable Mutex mutex_;
  absl::Status health_ ABSL_GUARDED_BY(mutex_) = absl::UnavailableError("the node's pods are not listed yet");
  Known known_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace kveil::kubernetes
