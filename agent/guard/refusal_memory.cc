#include "guard/refusal_memory.h"

namespace kveil::guard {
namespace {

constexpr std::chrono::seconds kBetweenSweeps{1};

}  // namespace

std::optional<kafka::ErrorCode> RefusalMemory::Check(const ProducerPartition& key, int32_t baseSequence,
                                                     Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const auto found = refused_.find(key);
  if (found == refused_.end()) return std::nullopt;
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
  refused_.try_emplace(key, Refused{baseSequence, code, now + lifetime_});
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
