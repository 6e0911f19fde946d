// Compares the known namespaces with those that the workloads' processes live in.
#include <algorithm>
#include <utility>

#include "base/mutex.h"
#include "base/text.h"
#include "intercept/namespaces/namespace_table.h"

namespace kveil::intercept {
namespace {

using State = Namespaces::NamespaceStatus::State;

// A comparison that an event or the timer asks for waits for this many times as long as the last one took, so that
// workloads cannot make the agent do nothing else.
constexpr int kRestAfterScan = 10;
// And at least this long, so that a workload that waits for its turn does not make it a loop.
constexpr std::chrono::milliseconds kLeastRestAfterScan(20);

// How long a turn of it takes, about.
constexpr std::chrono::milliseconds kTurn(20);

}  // namespace

void NamespaceTable::ScanIfDue() {
  const Clock::time_point now = Clock::now();
  if (comparison_.has_value() || (scanWanted_ && now >= nextScan_)) GoOnScanning(now + kTurn);
}

void NamespaceTable::Scan() {
  while (!GoOnScanning(Clock::time_point::max())) continue;
}

bool NamespaceTable::GoOnScanning(Clock::time_point end) {
  const Clock::time_point start = Clock::now();
  if (!comparison_.has_value()) {
    scanWanted_ = false;
    crowdedNow_.clear();
    comparison_.emplace(cgroups_, start);
  }
  const bool isThrough = Compare(end);
  const Clock::time_point now = Clock::now();
  comparison_->took += now - start;
  if (!isThrough) return false;
  nextScan_ = now + std::max<Clock::duration>(kRestAfterScan * comparison_->took, kLeastRestAfterScan);
  isStarting_ = false;
  comparison_.reset();
  return true;
}

bool NamespaceTable::Compare(Clock::time_point end) {
  if (!comparison_->scan.GoOn(end)) return false;
  const absl::flat_hash_map<uint64_t, Resident>& found = comparison_->scan.found();
  if (!comparison_->next.has_value()) comparison_->next = found.begin();
  for (auto& next = *comparison_->next; next != found.end(); ++next) {
    if (Clock::now() >= end) return false;
    CompareWith(next->first, next->second);
  }
  const absl::Status& problem = comparison_->scan.problem();
  if (problem.ok()) {
    LetGoOfUnused();
  } else {
    scanWanted_ = true;
  }
  const MutexLock lock(mutex_);
  scanProblem_ = problem;
  std::erase_if(notOpened_, [&](const auto& entry) { return problem.ok() && !found.contains(entry.first); });
  crowded_ = std::exchange(crowdedNow_, {});
  hiddenProcesses_ = comparison_->scan.hidden();
  return true;
}

void NamespaceTable::CompareWith(uint64_t inode, const Resident& resident) {
  const std::string file = NamespaceFile(resident.pid);
  if (NamespaceInode(file) != inode) {  // it has ended or moved since it was seen
    scanWanted_ = true;
    return;
  }
  Entry* const entry = FindByInode(inode);
  if (entry == nullptr) {
    const std::string share = cgroups_.ShareOf(resident.cgroupPath);
    std::optional<ServingTime::Piece> piece;
    if (!isStarting_) {
      if (!HasTurn(share) || !HasTimeToSpare(share, kHostOwnsNamespace)) {
        scanWanted_ = true;
        return;
      }
      piece.emplace(servingTime_, share);
    }
    if (Add(file, resident.pid, 0, share) == Found::kLater) scanWanted_ = true;
  } else if (!entry->status.isOwn && entry->status.state != State::kReleasing) {
    if (!IsInUse(*entry)) Keep(*entry, resident.pid, file);
    if (entry->status.state == State::kFailed && HasTimeToSpare(entry->payer, entry->PayingOwner())) Serve(*entry);
  }
}

void NamespaceTable::LetGoOfUnused() {
  std::vector<uint64_t> unused;
  for (auto& [cookie, entry] : entries_) {
    if (entry.status.isOwn || entry.status.state == State::kReleasing) continue;
    const bool isFound = comparison_->scan.found().contains(entry.status.inode);
    if (isFound || IsInUse(entry)) {  // a thread alone may live there
      entry.isMissed = false;
      continue;
    }
    LoseWitness(entry);
    const bool isMissed = entry.witnessedAt < comparison_->start;  // else others may be where the scan had been by then
    if (isMissed && entry.isMissed) {
      unused.push_back(cookie);
    } else {
      entry.isMissed = isMissed;
      scanWanted_ = true;
    }
  }
  for (const uint64_t cookie : unused) LetGo(entries_.at(cookie));
}

void NamespaceTable::Keep(Entry& entry, pid_t pid, std::string file) {
  absl::StatusOr<Witness> witness = Watch(pid, std::move(file));
  if (!witness.ok()) {
    scanWanted_ = true;
    return;
  }
  watch_(entry.status.netnsCookie, witness->pidFd.get());
  entry.isMissed = false;
  const MutexLock lock(mutex_);
  entry.witness = *std::move(witness);
  entry.status.process = static_cast<uint32_t>(pid);
}

void NamespaceTable::LoseWitness(Entry& entry) {
  if (!entry.witness.pidFd.valid()) return;
  entry.witnessedAt = Clock::now();
  const MutexLock lock(mutex_);
  entry.witness = {};
}

bool NamespaceTable::IsInUse(const Entry& entry) const {
  return entry.witness.pidFd.valid() && NamespaceInode(entry.witness.file) == entry.status.inode;
}

void NamespaceTable::OnWitnessEnded(uint64_t cookie) {
  const auto known = entries_.find(cookie);
  if (known == entries_.end() || !known->second.witness.pidFd.valid()) return;
  LoseWitness(known->second);
  scanWanted_ = true;
}

}  // namespace kveil::intercept
