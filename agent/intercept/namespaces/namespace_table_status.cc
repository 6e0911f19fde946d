// Reports the status and health of the namespaces.
#include "base/mutex.h"
#include "base/text.h"
#include "intercept/namespaces/namespace_table.h"

namespace kveil::intercept {
namespace {

using State = Namespaces::NamespaceStatus::State;

constexpr std::chrono::minutes kLatecomerRemembered(1);

// Why a namespace is not served: its addresses and ports are whatever those who live there make of them. The rest (no
// child process, no descriptors or memory, setns) is the agent's own.
bool IsWorkloadsDoing(const absl::Status& problem) { return absl::IsUnavailable(problem); }

}  // namespace

std::optional<Namespaces::NamespaceStatus> NamespaceTable::StatusOf(uint64_t cookie) const {
  const MutexLock lock(mutex_);
  const auto known = entries_.find(cookie);
  return known == entries_.end() ? std::nullopt : std::optional(known->second.status);
}

std::vector<Namespaces::NamespaceStatus> NamespaceTable::Status() const {
  const MutexLock lock(mutex_);
  std::vector<Namespaces::NamespaceStatus> all;
  for (const auto& [cookie, entry] : entries_) all.push_back(entry.status);
  return all;
}

absl::Status NamespaceTable::Unserved() const {
  const MutexLock lock(mutex_);
  if (unserved_.process == 0 || Clock::now() - unserved_.refusedAt > kUnknownLifetime) return absl::OkStatus();
  return absl::UnavailableError(StrCat("connects of process ", unserved_.process,
                                       " are refused: its network namespace is not found below ", cgroups_.path(),
                                       " (is the agent in the host's pid namespace?)"));
}

absl::Status NamespaceTable::NotReset() const {
  const MutexLock lock(mutex_);
  for (const auto& [cookie, entry] : entries_) {
    if (!entry.status.resetProblem.ok()) return entry.status.resetProblem;
  }
  return absl::OkStatus();
}

absl::Status NamespaceTable::NotServed(bool isAgentsFault) const {
  const MutexLock lock(mutex_);
  size_t failed = 0;
  std::string first;
  if (isAgentsFault && !notOpened_.empty()) {
    failed = notOpened_.size();
    first = ToStd(notOpened_.begin()->second.message());
  }
  for (const auto& [cookie, entry] : entries_) {
    if (entry.status.state == State::kReleasing) continue;
    const absl::Status& problem = entry.status.state == State::kFailed ? entry.status.problem : entry.loopback;
    if (problem.ok()) continue;  // served, or just about to be
    if (isAgentsFault != (entry.status.isOwn || !IsWorkloadsDoing(problem))) continue;
    if (failed++ == 0) first = StrCat("that of process ", entry.status.process, ": ", ToStd(problem.message()));
  }
  if (failed == 0) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat(failed, failed == 1 ? " network namespace is" : " network namespaces are", " not served; ", first));
}

absl::Status NamespaceTable::Health() const { return NotServed(/*isAgentsFault=*/true); }

absl::Status NamespaceTable::WorkloadsNotServed() const { return NotServed(/*isAgentsFault=*/false); }

absl::Status NamespaceTable::CrowdHealth() const {
  const MutexLock lock(mutex_);
  if (!crowded_.empty()) {
    return absl::ResourceExhaustedError(StrCat(*crowded_.begin(), " has more than ", kMostNamespacesOfOwner,
                                               " network namespaces, as many as are served for one: connects to the "
                                               "targets are refused in its others"));
  }
  if (!waited_.has_value() || Clock::now() - waited_->at > kLatecomerRemembered) return absl::OkStatus();
  return absl::ResourceExhaustedError(StrCat(waited_->who,
                                             ": serving its network namespaces takes more of the agent's time than one "
                                             "workload or user gets: its first connects there wait or are refused"));
}

absl::Status NamespaceTable::SeesAllProcesses() const {
  const MutexLock lock(mutex_);
  if (hiddenProcesses_ == 0) return scanProblem_;
  return absl::FailedPreconditionError(StrCat(hiddenProcesses_, " processes below ", cgroups_.path(),
                                              " are in a pid namespace that the agent does not see: it has to run in "
                                              "the host's (hostPID)"));
}

}  // namespace kveil::intercept
