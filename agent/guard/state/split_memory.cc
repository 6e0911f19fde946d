#include "guard/state/split_memory.h"

#include <algorithm>
#include <utility>

namespace kveil::guard {
namespace {

template <typename Batches>
auto FindSequence(Batches& batches, int32_t baseSequence) {
  return std::find_if(batches.begin(), batches.end(),
                      [&](const auto& entry) { return entry.id.baseSequence == baseSequence; });
}

}  // namespace

std::optional<SplitMemory::Split> SplitMemory::Find(const BatchId& batch, Clock::time_point now) {
  const MutexLock lock(mutex_);
  Producer* const producer = producers_.Find(batch.producer, now);
  size_.store(producers_.size(), std::memory_order_release);
  if (producer == nullptr) return std::nullopt;
  const auto entry = FindSequence(producer->batches, batch.baseSequence);
  if (entry == producer->batches.end()) return std::nullopt;
  if (entry->id.IsSameAs(batch)) return entry->split;
  // What was taken as a whole has its sequence numbers for itself: this is another cluster, or they have wrapped.
  if (entry->split.isTaken) return std::nullopt;
  Split anothers;
  anothers.isAnothers = true;
  return anothers;
}

SplitMemory::Entry* SplitMemory::FindSame(const BatchId& batch, Clock::time_point now) {
  Producer* const producer = producers_.Find(batch.producer, now);
  if (producer == nullptr) return nullptr;
  const auto entry = FindSequence(producer->batches, batch.baseSequence);
  return entry != producer->batches.end() && entry->id.IsSameAs(batch) ? &*entry : nullptr;
}

bool SplitMemory::Remember(const BatchId& batch, size_t partSize, Clock::time_point now) {
  const MutexLock lock(mutex_);
  Producer producer;
  if (Producer* const known = producers_.Find(batch.producer, now); known != nullptr) {
    producer = std::move(*known);
  } else {
    if (producers_.size() < producers_.capacity()) producer.share = shares_.Take(batch.producer.workload);
    if (producer.share == nullptr) return false;
  }
  const auto known = FindSequence(producer.batches, batch.baseSequence);
  const bool isSame = known != producer.batches.end() && known->id.IsSameAs(batch);
  if (known != producer.batches.end()) producer.batches.erase(known);
  producer.batches.push_back({.id = batch, .split = {.partSize = partSize}, .wasSentBefore = isSame});
  if (producer.batches.size() > kMostOfAProducer) producer.batches.pop_front();
  producers_.Put(batch.producer, std::move(producer), now);
  size_.store(producers_.size(), std::memory_order_release);
  return true;
}

void SplitMemory::Taken(const BatchId& batch, int64_t baseOffset, Clock::time_point now) {
  const MutexLock lock(mutex_);
  Entry* const entry = FindSame(batch, now);
  if (entry == nullptr) return;
  entry->split.isTaken = true;
  entry->split.baseOffset = baseOffset;
}

void SplitMemory::Forget(const BatchId& batch, Clock::time_point now) {
  const MutexLock lock(mutex_);
  Entry* const entry = FindSame(batch, now);
  if (entry == nullptr || entry->wasSentBefore) return;
  std::deque<Entry>& batches = producers_.Find(batch.producer, now)->batches;
  batches.erase(FindSequence(batches, batch.baseSequence));
  if (batches.empty()) producers_.Erase(batch.producer);
  size_.store(producers_.size(), std::memory_order_release);
}

}  // namespace kveil::guard
