#include "audit/tally.h"

#include "base/text.h"

namespace kveil::audit {
namespace {

std::string_view TellApart(const identity::Workload& workload) {
  if (workload.pod != nullptr) return workload.podUid;
  return workload.unit.empty() ? std::string_view(workload.cgroupPath) : std::string_view(workload.unit);
}

std::string ServiceAccountOf(const identity::Workload& workload) {
  if (workload.pod == nullptr || workload.pod->serviceAccount.empty()) return "";
  return StrCat(workload.pod->nameSpace, "/", workload.pod->serviceAccount);
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
  Counted& counted = found != counted_.end() ? found->second : Find(workload, use, counts.haveRecords());
  counted.counts.Add(counts);
  counted.isByUser |= what.isByUser;
  if (!users.empty()) AddUsers(workload.share, users, counted);
}

// Where there is no room for it, that of all uses of the share for which there is none.
Counted& Tally::Find(const identity::Workload& workload, UseView use, bool hasRecords) {
  auto share = shares_.find(ToAbsl(use.share));
  if (share == shares_.end() && shares_.size() < kMostShares) share = shares_.try_emplace(workload.share).first;
  if (!HasRoom(share != shares_.end() ? &share->second : nullptr, use, hasRecords)) {
    use = UseView{.share = share != shares_.end() ? use.share : std::string_view(), .access = use.access};
  }
  const auto [entry, isNew] = counted_.try_emplace(Use(use));
  Counted& counted = entry->second;
  std::string name = workload.name();
  std::string serviceAccount = ServiceAccountOf(workload);
  if (isNew) {
    counted.name = std::move(name);
    counted.serviceAccount = std::move(serviceAccount);
  } else {
    counted.KeepCommonNames(name, serviceAccount);
  }
  return counted;
}

// Takes the room, too.
bool Tally::HasRoom(Share* share, const UseView& use, bool hasRecords) {
  if (share == nullptr || use.topic.size() > kLongestTopic) return false;
  size_t& ofShare = hasRecords ? share->uses : share->denials;
  size_t& ofAll = hasRecords ? uses_ : denials_;
  if (ofShare >= (hasRecords ? kMostUsesOfAShare : kMostDenialsOfAShare)) return false;
  if (ofAll >= (hasRecords ? kMostUses : kMostDenials)) return false;
  ++ofShare;
  ++ofAll;
  return true;
}

void Tally::AddUsers(const std::string& share, absl::Span<const crypto::KeyId> users, Counted& counted) {
  const auto known = shares_.find(share);
  for (const crypto::KeyId& user : users) {
    const auto found = counted.users.find(user);
    if (found != counted.users.end()) {
      ++found->second;
    } else if (known == shares_.end() || known->second.users >= kMostUsersOfAShare ||
               (known->second.users >= kLeastUsersOfAShare && users_ >= kMostUsers)) {
      ++counted.counts.withoutUser;
    } else {
      counted.users.emplace(user, 1);
      if (++known->second.users > kLeastUsersOfAShare) ++users_;
    }
  }
}

AllCounted Tally::Take() {
  const MutexLock lock(mutex_);
  shares_.clear();
  uses_ = denials_ = users_ = 0;
  return std::exchange(counted_, AllCounted());
}

}  // namespace kveil::audit
