#include "guard/refusal_memory.h"

namespace kveil::guard {
namespace {

constexpr std::chrono::seconds kBetweenSweeps{1};

// Whether one sequence number comes before another; they wrap from 2^31 - 1 to 0.
bool IsBefore(int32_t sequence, int32_t other) {
  const uint32_t distance = (static_cast<uint32_t>(other) - static_cast<uint32_t>(sequence)) & 0x7fffffff;
  return distance != 0 && distance < 0x40000000;
}

}  // namespace

std::optional<kafka::ErrorCode> RefusalMemory::Check(const ProducerPartition& key, int32_t baseSequence,
                                                     Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const auto found = refused_.find(key);
  if (found == refused_.end() || IsBefore(baseSequence, found->second.baseSequence)) return std::nullopt;
  if (found->second.expires > now && found->second.baseSequence != baseSequence) {
    found->second.expires = now + lifetime_;  // the producer is still there
    return found->second.code;
  }
  refused_.erase(found);
  size_.store(refused_.size(), std::memory_order_release);
  return std::nullopt;
}

void RefusalMemory::Remember(const ProducerPartition& key, int32_t baseSequence, kafka::ErrorCode code,
                             Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (now >= nextSweep_) DropExpired(now);
  if (refused_.size() >= kMostProducers && !refused_.contains(key)) refused_.erase(refused_.begin());
  const auto [entry, isNew] = refused_.try_emplace(key, Refused{baseSequence, code, now + lifetime_});
  if (!isNew && IsBefore(baseSequence, entry->second.baseSequence)) {
    entry->second = Refused{baseSequence, code, now + lifetime_};
  }
  size_.store(refused_.size(), std::memory_order_release);
}

void RefusalMemory::DropExpired(Clock::time_point now) {
  nextSweep_ = now + kBetweenSweeps;
  for (auto entry = refused_.begin(); entry != refused_.end();) {
    if (entry->second.expires <= now) {
      refused_.erase(entry++);
    } else {
      ++entry;
    }
  }
}

}  // namespace kveil::guard
