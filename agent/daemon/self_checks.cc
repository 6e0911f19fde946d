#include "daemon/self_checks.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::daemon {
namespace {

// What a few connections and the files of a new namespace take.
constexpr int kSpareDescriptors = 16;
// A worker that is busy goes round its loop in milliseconds, the key service answers within its time limits.
constexpr std::chrono::seconds kWorkerPatience{3};
constexpr std::chrono::seconds kKeysPatience{5};
// A connect over loopback takes less than a millisecond, and the process that makes it a few.
constexpr std::chrono::seconds kConnectPatience{2};
// Many new namespaces at once take the thread seconds.
constexpr std::chrono::seconds kNamespacesPatience{10};
constexpr uint64_t kRunsPerConnect = 5;

}  // namespace

absl::Status CheckDescriptors(int count) {
  std::vector<UniqueFd> spare;
  for (int i = 0; i < count; ++i) {
    UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) {
      return absl::ResourceExhaustedError(StrCat("only ", i, " more descriptors can be opened: ", std::strerror(errno),
                                                 "; raise RLIMIT_NOFILE or lower limits.connections"));
    }
    spare.push_back(std::move(fd));
  }
  return absl::OkStatus();
}

void SelfChecks::Report(const char* name, const absl::Status& status) {
  health_.Set(name, status);
  ableNow_ = ableNow_ && status.ok();
}

void SelfChecks::Run() {
  const MutexLock lock(mutex_);
  if (!runs_.MayBegin(std::chrono::steady_clock::now())) return;
  ableNow_ = true;
  Report("workers", server_.CheckWorkers(kWorkerPatience));
  Report("namespacesThread", namespaces_.CheckThread(kNamespacesPatience));
  alive_ = ableNow_;
  Report("descriptors", CheckDescriptors(kSpareDescriptors));
  Report("agentCgroup", redirect_.RepairAgentCgroup());
  Report("namespaceAccess", access_.EnterNamespace());
  Report("identity", access_.NameCgroup());
  Report("processes", namespaces_.SeesAllProcesses());
  // Not in the first run: the agent has just connected when it starts. What fails is tried each time, so that a node
  // that is well again is ready at once.
  if (runs_.count() % kRunsPerConnect == 0 || !connected_.ok()) connected_ = redirect_.Probe(kConnectPatience);
  Report("probe", connected_);
  Report("keyService", UnwrapAKey());
  able_ = ableNow_;
  endOfRun_ = Clock::now();
}

// What the service has found out since the last call, or that it does not answer.
absl::Status SelfChecks::UnwrapAKey() {
  if (question_ != nullptr) {
    const MutexLock lock(question_->mutex);
    if (question_->answer.has_value()) {
      unwrapped_ = *question_->answer;
    } else if (std::chrono::steady_clock::now() - question_->asked < kKeysPatience) {
      return unwrapped_;
    } else {
      return absl::UnavailableError("the key service does not answer");
    }
  }
  question_ = std::make_shared<Question>();
  keys_.TryUnwrap([question = question_](absl::Status answer) {
    const MutexLock lock(question->mutex);
    question->answer = std::move(answer);
  });
  return unwrapped_;
}

}  // namespace kveil::daemon
