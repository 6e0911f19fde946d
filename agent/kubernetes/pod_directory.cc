#include "kubernetes/pod_directory.h"

#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "http/jitter.h"
#include "kubernetes/messages.h"

namespace kveil::kubernetes {
namespace {

using std::chrono::milliseconds;

// Of an event. The API server takes no object of more than 3 MiB.
constexpr size_t kLongestLine = size_t{4} << 20;

}  // namespace

PodDirectory::PodDirectory(Options options) : options_(std::move(options)), server_(options_.apiServer) {
  thread_ = std::thread([this] {
    ::prctl(PR_SET_NAME, "kveil-pods");
    Follow();
  });
}

PodDirectory::~PodDirectory() {
  {
    const MutexLock lock(mutex_);
    isStopping_ = true;
  }
  stopped_.notify_all();
  server_.Stop();
  thread_.join();
}

std::shared_ptr<const identity::Pod> PodDirectory::Find(std::string_view uid) const {
  const MutexLock lock(mutex_);
  const auto pod = pods_.find(ToAbsl(uid));
  return pod == pods_.end() ? nullptr : pod->second;
}

size_t PodDirectory::size() const {
  const MutexLock lock(mutex_);
  return pods_.size();
}

absl::Status PodDirectory::Health() const {
  const MutexLock lock(mutex_);
  if (health_.ok() && isFull_) {
    return absl::ResourceExhaustedError(
        StrCat("this node has more than ", options_.mostPods, " pods; the others are not known"));
  }
  return health_;
}

void PodDirectory::Follow() {
  milliseconds pause = options_.firstPause;
  for (;;) {
    const absl::Status status = ListAndWatch();
    Note(status);
    if (status.ok()) pause = options_.firstPause;
    // Also after a watch that has come to its end: the agents of all nodes may have begun theirs at the same moment.
    if (!Sleep(http::UpTo(pause))) return;
    if (!status.ok()) pause = std::min(2 * pause, options_.longestPause);
  }
}

bool PodDirectory::Sleep(milliseconds time) {
  const auto end = Clock::now() + time;
  const MutexLock lock(mutex_);
  while (!isStopping_) {
    if (stopped_.wait_until(mutex_, end) == std::cv_status::timeout) break;
  }
  return !isStopping_;
}

void PodDirectory::Note(absl::Status status) {
  const MutexLock lock(mutex_);
  health_ = std::move(status);
}

// Returns OK when a watch has come to its end.
absl::Status PodDirectory::ListAndWatch() {
  ASSIGN_OR_RETURN(const std::string resourceVersion, List());
  Note(absl::OkStatus());
  const absl::Status status = Watch(resourceVersion);
  return absl::IsOutOfRange(status) ? absl::OkStatus() : status;
}

std::string PodDirectory::Path(std::string_view query) const {
  // A node's name is a DNS name: nothing in it needs an escape.
  return StrCat("/api/v1/pods?fieldSelector=spec.nodeName%3D", options_.node, query);
}

// Returns the version to watch from. From the server's cache (version 0): that costs etcd nothing, and what the cache
// does not have yet the watch brings.
absl::StatusOr<std::string> PodDirectory::List() {
  ASSIGN_OR_RETURN(const crypto::SecretText body,
                   server_.Get(Path("&resourceVersion=0"), Clock::now() + options_.requestTimeout));
  ASSIGN_OR_RETURN(PodList list, ParseList(crypto::AsText(body)));
  absl::flat_hash_map<std::string, std::shared_ptr<const identity::Pod>> pods;
  for (identity::Pod& pod : list.pods) {
    if (pods.size() == options_.mostPods) break;
    auto known = std::make_shared<const identity::Pod>(std::move(pod));
    pods.emplace(known->uid, known);
  }
  const MutexLock lock(mutex_);
  isFull_ = pods.size() < list.pods.size();
  pods_ = std::move(pods);
  return std::move(list.resourceVersion);
}

absl::Status PodDirectory::Watch(const std::string& resourceVersion) {
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
  const absl::Status status = server_.Stream(
      Path(StrCat("&watch=1&resourceVersion=", resourceVersion, "&timeoutSeconds=", options_.watchTime.count())),
      Clock::now() + options_.watchTime + options_.requestTimeout, take);
  return taken.ok() ? status : taken;
}

absl::Status PodDirectory::Take(std::string_view line) {
  ASSIGN_OR_RETURN(PodEvent event, ParseEvent(line));
  const MutexLock lock(mutex_);
  if (event.type == PodEvent::Type::kIsGone) {
    pods_.erase(event.pod.uid);
    return absl::OkStatus();
  }
  auto pod = std::make_shared<const identity::Pod>(std::move(event.pod));
  const bool isTooMany = pods_.size() >= options_.mostPods && !pods_.contains(pod->uid);
  isFull_ = isFull_ || isTooMany;
  if (!isTooMany) pods_.insert_or_assign(pod->uid, std::move(pod));
  return absl::OkStatus();
}

}  // namespace kveil::kubernetes
