// Handles connects: adds namespaces that are not known yet, and tries again where serving failed.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "base/text.h"
#include "intercept/namespaces/namespace_table.h"

namespace kveil::intercept {
namespace {

using State = Namespaces::NamespaceStatus::State;

// Of a process whose refused connect came from a namespace that is not its own.
constexpr size_t kMostThreadsLookedAt = 1024;
// And then not again for that workload, where it was in vain.
constexpr std::chrono::seconds kRestAfterThreads(1);

// A namespace is found with its first connect, or with the scan that follows it. One that still is not after this time,
// while connects go on, is out of the agent's reach.
constexpr std::chrono::seconds kUnknownPatience(5);
// Held connects that are remembered until it is their turn; what is beyond them is found by the scan.
constexpr size_t kMostPutOff = 1024;
constexpr size_t kMostPutOffOfShare = 64;

int MillisecondsUntil(std::chrono::steady_clock::time_point time) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::max<int64_t>(left, 0));
}

}  // namespace

// The connecting workload pays if nobody else can: one workload must not keep another that lives there waiting.
void NamespaceTable::HaveItPaid(Entry& entry, const RefusedConnect& refused) {
  const Clock::time_point now = Clock::now();
  const Clock::time_point next = std::max(now, entry.nextAttempt);
  if (!entry.payer.empty() && TurnOf(entry.payer, entry.PayingOwner(), now) <= next) return;
  entry.payer = cgroups_.ShareOf(refused.cgroupId, refused.shareCgroupId);
}

void NamespaceTable::NoteUnknown(const RefusedConnect& refused) {
  const Clock::time_point now = Clock::now();
  const Clock::time_point* const known = unknownSince_.Find(refused.netnsCookie, now);
  const Clock::time_point since = known == nullptr ? now : *known;
  unknownSince_.Put(refused.netnsCookie, since, now);
  if (now - since < kUnknownPatience) return;
  const MutexLock lock(mutex_);
  unserved_ = {.process = refused.pid, .refusedAt = now};
}

NamespaceTable::Found NamespaceTable::AddByProcess(const RefusedConnect& refused) {
  const auto pid = static_cast<pid_t>(refused.pid);
  const std::string share = cgroups_.ShareOf(refused.cgroupId, refused.shareCgroupId);
  if (!HasTurn(share)) return Found::kLater;
  const ServingTime::Piece piece(servingTime_, share);
  Found found = Add(NamespaceFile(pid), pid, refused.netnsCookie, share);
  if (found == Found::kNo) found = AddByThread(refused, share);
  if (found == Found::kNo) {
    notFound_.Put(refused.netnsCookie, true, Clock::now());
    NoteUnknown(refused);
  }
  return found;
}

NamespaceTable::Found NamespaceTable::AddByThread(const RefusedConnect& refused, const std::string& share) {
  Clock::time_point& next = nextWalk_[refused.share];
  if (Clock::now() < next || CountOf(share) >= kMostNamespacesOfOwner) return Found::kNo;
  const auto pid = static_cast<pid_t>(refused.pid);
  absl::flat_hash_set<uint64_t> tried = {NamespaceInode(NamespaceFile(pid))};
  for (const std::string& file : NamespaceFilesOfThreads(pid, kMostThreadsLookedAt)) {  // one alone may live there
    const uint64_t inode = NamespaceInode(file);
    if (!tried.insert(inode).second || FindByInode(inode) != nullptr) continue;
    if (const Found found = Add(file, pid, refused.netnsCookie, share); found != Found::kNo) return found;
  }
  next = Clock::now() + kRestAfterThreads;
  return Found::kNo;
}

void NamespaceTable::OnRefused(const RefusedConnect& refused) {
  OnConnect(refused, Clock::now() + redirect_.holdTime());
}

void NamespaceTable::OnConnect(const RefusedConnect& refused, Clock::time_point heldUntil) {
  const bool isHeld = refused.reason == RefusedConnect::Reason::kHeld;
  const bool isNew = !entries_.contains(refused.netnsCookie);
  const Clock::time_point now = Clock::now();
  if (isNew && notFound_.Find(refused.netnsCookie, now) != nullptr) return;
  const Found found = isNew ? AddByProcess(refused) : Found::kYes;
  if (found == Found::kLater && isHeld) PutOffHeld(refused, heldUntil);
  if (found != Found::kYes) {
    scanWanted_ = true;  // it has ended, or its number is not one of ours: another process there will do
    return;
  }
  Entry& entry = entries_.at(refused.netnsCookie);
  if (isHeld) entry.heldUntil = heldUntil;
  if (isNew) return;
  if (!isHeld) {
    const MutexLock lock(mutex_);
    ++entry.status.refusedConnects;
  }
  HaveItPaid(entry, refused);
  if (entry.status.state == State::kFailed) Serve(entry);
  if (!entry.loopback.ok() && IsDue(entry)) {
    const Piece piece(servingTime_, entry.payer, entry.PayingOwner());
    entry.nextAttempt = Clock::now() + kRetryAfter;
    NoteLoopback(entry);
  }
  if (entry.status.state == State::kServed && entry.loopback.ok() && refused.family == AF_INET6 && !entry.status.ipv6) {
    ServeV6(entry);
  }
}

void NamespaceTable::PutOffHeld(const RefusedConnect& refused, Clock::time_point heldUntil) {
  const Clock::time_point now = Clock::now();
  const std::string share = cgroups_.ShareOf(refused.cgroupId, refused.shareCgroupId);
  size_t ofShare = 0;
  for (const PutOff& one : putOff_) {
    if (one.share != share) continue;
    if (one.refused.netnsCookie == refused.netnsCookie) return;
    ++ofShare;
  }
  if (putOff_.size() >= kMostPutOff || ofShare >= kMostPutOffOfShare) return;
  // If it is the workload's turn, it is not the user's.
  const Clock::time_point next = servingTime_.HasTurn(share, now) ? now + kRetryAfter : now;
  putOff_.push_back({.refused = refused, .share = share, .nextAttempt = next, .heldUntil = heldUntil});
}

NamespaceTable::Clock::time_point NamespaceTable::DueAt(const PutOff& one) {
  return std::max(one.nextAttempt, servingTime_.TurnOf(one.share, Clock::now()));
}

bool NamespaceTable::IsHeldAndFailed(const Entry& entry) const {
  return entry.status.state == State::kFailed && Clock::now() < entry.heldUntil;
}

void NamespaceTable::RetryHeld() {
  for (PutOff& one : std::exchange(putOff_, {})) {
    const Clock::time_point now = Clock::now();
    if (now >= one.heldUntil) continue;
    if (now < DueAt(one)) {
      putOff_.push_back(std::move(one));
    } else {
      OnConnect(one.refused, one.heldUntil);
    }
  }
  for (auto& [cookie, entry] : entries_) {
    if (IsHeldAndFailed(entry)) Serve(entry);
  }
}

int NamespaceTable::MillisecondsToWait() {
  if (comparison_.has_value()) return 0;
  int least = scanWanted_ ? MillisecondsUntil(nextScan_) : -1;
  const auto waitUntil = [&least](Clock::time_point time) {
    const int milliseconds = MillisecondsUntil(time);
    least = least < 0 ? milliseconds : std::min(least, milliseconds);
  };
  for (const auto& [cookie, entry] : entries_) {
    if (IsHeldAndFailed(entry)) waitUntil(DueAt(entry));
  }
  for (const PutOff& one : putOff_) waitUntil(DueAt(one));
  return least;
}

}  // namespace kveil::intercept
