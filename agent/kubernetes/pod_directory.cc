#include "kubernetes/pod_directory.h"

#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "http/jitter.h"
#include "kubernetes/list_reader.h"

namespace kveil::kubernetes {
namespace {

using std::chrono::milliseconds;

constexpr size_t kLongestLine = kLongestObject + (size_t{4} << 10);  // an object and the type of its event

// By the hash of their files.
template <typename Pods>
Pods StaticPodsOf(const Pods& mirrors) {
  Pods found;
  for (const auto& [object, pod] : mirrors) {
    if (const auto [place, isNew] = found.emplace(pod->uid, pod); !isNew) place->second = nullptr;
  }
  return found;
}

}  // namespace

PodDirectory::PodDirectory(Options options) : options_(std::move(options)), server_(options_.apiServer) {
  thread_ = std::thread([this] {
    ::prctl(PR_SET_NAME, "kveil-pods");
    Follow();
  });
}

PodDirectory::~PodDirectory() {
  stop_.Stop();
  server_.Stop();
  thread_.join();
}

std::shared_ptr<const identity::Pod> PodDirectory::Find(std::string_view uid) const {
  const MutexLock lock(mutex_);
  const auto pod = known_.pods.find(ToAbsl(uid));
  if (pod != known_.pods.end()) return pod->second;
  const auto staticPod = known_.staticPods.find(ToAbsl(uid));
  return staticPod == known_.staticPods.end() ? nullptr : staticPod->second;
}

size_t PodDirectory::size() const {
  const MutexLock lock(mutex_);
  return known_.pods.size() + known_.mirrors.size();
}

absl::Status PodDirectory::Health() const {
  const MutexLock lock(mutex_);
  if (!health_.ok()) return health_;
  if (known_.hasTooManyPods) {
    return absl::ResourceExhaustedError(
        StrCat("this node has more than ", options_.mostPods, " pods; the others are not known"));
  }
  if (known_.hasTooManyMirrors) {
    return absl::ResourceExhaustedError(StrCat("this node has more than ", options_.mostMirrors,
                                               " mirrors of static pods; the other static pods are not known"));
  }
  return absl::OkStatus();
}

void PodDirectory::Follow() {
  milliseconds pause = options_.firstPause;
  for (;;) {
    bool wentOn = false;
    Note(ListAndWatch(wentOn));
    if (wentOn) pause = options_.firstPause;
    if (!stop_.Sleep(http::UpTo(pause))) return;
    pause = std::min(2 * pause, options_.longestPause);
  }
}

void PodDirectory::Note(absl::Status status) {
  const MutexLock lock(mutex_);
  health_ = std::move(status);
}

// Returns OK when a watch has come to its end. `wentOn`: it did not come at once.
absl::Status PodDirectory::ListAndWatch(bool& wentOn) {
  if (absl::Status status = List(); !status.ok()) {
    resourceVersion_.clear();
    return status;
  }
  Note(absl::OkStatus());
  const Clock::time_point begun = Clock::now();
  const absl::Status status = Watch();
  // A watch that went on for a while has ended well, also if something in between has cut it. One that ends at once,
  // again and again, is a burden to the server, whatever the reason.
  wentOn = Clock::now() - begun > options_.longestPause;
  return wentOn || absl::IsOutOfRange(status) ? absl::OkStatus() : status;
}

std::string PodDirectory::Path(std::string_view query) const {
  // A node's name is a DNS name: nothing in it needs an escape. Pods that have ended open no connections, and there may
  // be any number of them.
  return StrCat("/api/v1/pods?fieldSelector=spec.nodeName%3D", options_.node,
                "%2Cstatus.phase!%3DSucceeded%2Cstatus.phase!%3DFailed", query);
}

// From the server's cache, which costs etcd nothing, but never from one that is behind what was seen before.
absl::Status PodDirectory::List() {
  std::string version;
  if (!resourceVersion_.empty()) {
    version = StrCat("&resourceVersion=", resourceVersion_, "&resourceVersionMatch=NotOlderThan");
  }
  Known known;
  ListReader reader([&](PodObject found) { Keep(std::move(found), known); });
  absl::Status taken;
  const auto take = [&](std::string_view bytes) {
    taken = reader.Take(bytes);
    return taken.ok();
  };
  const absl::Status status = server_.Stream(Path(version), Clock::now() + options_.listTimeout, take);
  RETURN_IF_ERROR(taken);
  RETURN_IF_ERROR(status);
  ASSIGN_OR_RETURN(resourceVersion_, reader.End());
  {
    const MutexLock lock(mutex_);
    std::swap(known_, known);
  }
  isFilled_ = true;
  return absl::OkStatus();
}

absl::Status PodDirectory::Watch() {
  // Those of all nodes do not end at the same moment, even if they began so.
  const milliseconds half = options_.watchTime / 2;
  const auto time = std::chrono::duration_cast<std::chrono::seconds>(half + http::UpTo(half));
  std::string line;
  absl::Status taken;
  const auto take = [&](std::string_view bytes) {
    while (taken.ok() && !bytes.empty()) {
      const size_t end = bytes.find('\n');
      line.append(bytes.substr(0, end));
      if (line.size() > kLongestLine) {
        taken = absl::UnavailableError("the Kubernetes API server sends an event that is longer than any should be");
      }
      if (end == std::string_view::npos) break;
      bytes.remove_prefix(end + 1);
      if (taken.ok() && !line.empty()) taken = Take(line);
      line.clear();
    }
    return taken.ok();
  };
  // The server ends the watch in time; if not, it is not there any more.
  const absl::Status status =
      server_.Stream(Path(StrCat("&watch=1&resourceVersion=", resourceVersion_, "&timeoutSeconds=", time.count() + 1)),
                     Clock::now() + time + options_.requestTimeout, take);
  return taken.ok() ? status : taken;
}

absl::Status PodDirectory::Take(std::string_view line) {
  ASSIGN_OR_RETURN(PodEvent event, ParseEvent(line));
  if (!event.resourceVersion.empty()) resourceVersion_ = event.resourceVersion;
  const MutexLock lock(mutex_);
  if (event.type == PodEvent::Type::kIsGone) {
    Forget(event.pod.object, known_);
  } else {
    Keep(std::move(event.pod), known_);
  }
  return absl::OkStatus();
}

void PodDirectory::Keep(PodObject pod, Known& known) const {
  Forget(pod.object, known);
  const bool isMirror = pod.isMirror();
  // Mirrors have a place of their own: the kubelet does not count them, so whoever may create pods could make many.
  Pods& pods = isMirror ? known.mirrors : known.pods;
  if (pods.size() >= (isMirror ? options_.mostMirrors : options_.mostPods)) {
    (isMirror ? known.hasTooManyMirrors : known.hasTooManyPods) = true;
    return;
  }
  pods.emplace(std::move(pod.object), std::make_shared<const identity::Pod>(std::move(pod.pod)));
  if (isMirror) known.staticPods = StaticPodsOf(known.mirrors);
}

void PodDirectory::Forget(const std::string& object, Known& known) {
  known.pods.erase(object);
  if (known.mirrors.erase(object) > 0) known.staticPods = StaticPodsOf(known.mirrors);
}

}  // namespace kveil::kubernetes
