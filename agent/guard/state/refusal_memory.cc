#include "guard/state/refusal_memory.h"

namespace kveil::guard {
namespace {

// Whether one sequence number comes before another; they wrap from 2^31 - 1 to 0.
bool IsBefore(int32_t sequence, int32_t other) {
  const uint32_t distance = (static_cast<uint32_t>(other) - static_cast<uint32_t>(sequence)) & 0x7fffffff;
  return distance != 0 && distance < 0x40000000;
}

}  // namespace

std::optional<kafka::ErrorCode> RefusalMemory::Check(const ProducerPartition& key, int32_t baseSequence,
                                                     Clock::time_point now) {
  const MutexLock lock(mutex_);
  Refused* const found = refused_.Find(key, now);
  std::optional<kafka::ErrorCode> code;
  if (found != nullptr && found->baseSequence == baseSequence) {
    refused_.Erase(key);
  } else if (found != nullptr && !IsBefore(baseSequence, found->baseSequence)) {
    code = found->code;
    refused_.Put(key, Refused(*found), now);  // the producer is still there
  }
  size_.store(refused_.size(), std::memory_order_release);
  return code;
}

bool RefusalMemory::Remember(const ProducerPartition& key, int32_t baseSequence, kafka::ErrorCode code,
                             Clock::time_point now) {
  const MutexLock lock(mutex_);
  if (Refused* const known = refused_.Find(key, now); known != nullptr) {
    if (!IsBefore(baseSequence, known->baseSequence)) return true;
    refused_.Put(key, Refused{.baseSequence = baseSequence, .code = code, .share = known->share}, now);
    return true;
  }
  if (refused_.size() >= refused_.capacity()) return false;
  proxy::WorkloadShares::Share share = shares_.Take(key.workload);
  if (share == nullptr) return false;
  refused_.Put(key, Refused{.baseSequence = baseSequence, .code = code, .share = std::move(share)}, now);
  size_.store(refused_.size(), std::memory_order_release);
  return true;
}

}  // namespace kveil::guard
