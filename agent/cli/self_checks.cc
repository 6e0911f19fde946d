#include "cli/self_checks.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::cli {
namespace {

// What a few connections and the files of a new namespace take.
constexpr int kSpareDescriptors = 16;
// A worker that is busy goes round its loop in milliseconds, the key service answers within its time limits.
constexpr std::chrono::seconds kWorkerPatience{3};
constexpr std::chrono::seconds kKeysPatience{5};
// Many new namespaces at once, or a walk through very many processes, take the thread seconds.
constexpr std::chrono::seconds kNamespacesPatience{10};
constexpr uint64_t kRunsPerWalk = 5;

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
  const std::lock_guard lock(mutex_);
  ableNow_ = true;
  Report("workers", server_.CheckWorkers(kWorkerPatience));
  Report("namespacesThread", namespaces_.CheckThread(kNamespacesPatience));
  Report("descriptors", CheckDescriptors(kSpareDescriptors));
  Report("agentCgroup", redirect_.RepairAgentCgroup());
  Report("namespaceAccess", access_.EnterNamespace());
  Report("identity", access_.NameCgroup());
  if (runs_++ % kRunsPerWalk == 0) processesSeen_ = access_.SeeProcesses();
  Report("processes", processesSeen_);
  able_ = ableNow_;
  health_.Set("keyService", AskForKeys());
}

// An id that nobody has: the answer needs the service's thread and the registry.
absl::Status SelfChecks::AskForKeys() {
  const auto now = std::chrono::steady_clock::now();
  if (question_ != nullptr && !question_->answered) {
    if (now - question_->asked < kKeysPatience) return absl::OkStatus();
    return absl::UnavailableError("the key service does not answer");
  }
  question_ = std::make_shared<Question>();
  keys::Misses misses;
  misses.ids.emplace_back();
  keys_.Fetch(std::move(misses), "kveil agent",
              [question = question_](keys::FetchResult) { question->answered = true; });
  return absl::OkStatus();
}

}  // namespace kveil::cli
