#include "audit/tally.h"

#include "base/text.h"

namespace kveil::audit {
namespace {

std::string_view TellApart(const identity::Workload& workload) {
  if (workload.pod != nullptr) return workload.podUid;
  return workload.unit.empty() ? std::string_view(workload.cgroupPath) : std::string_view(workload.unit);
}

}  // namespace

void Tally::Add(const identity::Workload& workload, const What& what, const Counts& counts,
                absl::Span<const crypto::KeyId> users) {
  const UseView use{.share = workload.share,
                    .workload = TellApart(workload),
                    .cluster = what.cluster,
                    .topic = what.topic,
                    .file = what.file,
                    .uid = workload.uid,
                    .entry = what.entry,
                    .access = what.access};
  const MutexLock lock(mutex_);
  const auto found = counted_.find(use);
  Counted& counted = found != counted_.end() ? found->second : Find(workload, use);
  counted.counts.Add(counts);
  counted.isByUser |= what.isByUser;
  if (!users.empty()) AddUsers(workload.share, users, counted);
}

// Where there is no room for it, that of all uses of the workload's for which there is none.
Counted& Tally::Find(const identity::Workload& workload, UseView use) {
  const auto known = shares_.find(ToAbsl(use.share));
  const bool hasRoom = known == shares_.end() ? shares_.size() < kMostShares : known->second.uses < kMostUsesOfAShare;
  const bool isKnown = known != shares_.end() || hasRoom;
  if (!hasRoom || counted_.size() >= kMostUses) {
    use = UseView{.share = isKnown ? use.share : std::string_view(), .access = use.access};
  }
  const auto [entry, isNew] = counted_.try_emplace(Use(use));
  if (!isNew) return entry->second;
  if (isKnown) ++shares_[workload.share].uses;
  if (!use.topic.empty()) {
    entry->second.name = workload.name();
    if (workload.pod != nullptr && !workload.pod->serviceAccount.empty()) {
      entry->second.serviceAccount = StrCat(workload.pod->nameSpace, "/", workload.pod->serviceAccount);
    }
  }
  return entry->second;
}

void Tally::AddUsers(const std::string& share, absl::Span<const crypto::KeyId> users, Counted& counted) {
  const auto known = shares_.find(share);
  for (const crypto::KeyId& user : users) {
    const auto found = counted.users.find(user);
    if (found != counted.users.end()) {
      ++found->second;
    } else if (known == shares_.end() || users_ >= kMostUsers || known->second.users >= kMostUsersOfAShare) {
      ++counted.counts.withoutUser;
    } else {
      counted.users.emplace(user, 1);
      ++users_;
      ++known->second.users;
    }
  }
}

AllCounted Tally::Take() {
  const MutexLock lock(mutex_);
  shares_.clear();
  users_ = 0;
  return std::exchange(counted_, AllCounted());
}

}  // namespace kveil::audit
