#include "guard/split_memory.h"

#include <algorithm>
#include <utility>

namespace kveil::guard {
namespace {

constexpr std::chrono::seconds kBetweenSweeps{10};

template <typename Batches>
auto FindSequence(Batches& batches, int32_t baseSequence) {
  return std::find_if(batches.begin(), batches.end(),
                      [&](const auto& entry) { return entry.id.baseSequence == baseSequence; });
}

}  // namespace

std::optional<SplitMemory::Split> SplitMemory::Find(const BatchId& batch, Clock::time_point now) const {
  const std::lock_guard lock(mutex_);
  const auto producer = producers_.find(batch.producer);
  if (producer == producers_.end() || producer->second.expires <= now) return std::nullopt;
  const auto entry = FindSequence(producer->second.batches, batch.baseSequence);
  if (entry == producer->second.batches.end()) return std::nullopt;
  if (entry->id.IsSameAs(batch)) return entry->split;
  // What was taken as a whole has its sequence numbers for itself: this is another cluster, or they have wrapped.
  if (entry->split.isTaken) return std::nullopt;
  Split anothers;
  anothers.isAnothers = true;
  return anothers;
}

SplitMemory::Entry* SplitMemory::FindSame(const BatchId& batch) {
  const auto producer = producers_.find(batch.producer);
  if (producer == producers_.end()) return nullptr;
  const auto entry = FindSequence(producer->second.batches, batch.baseSequence);
  return entry != producer->second.batches.end() && entry->id.IsSameAs(batch) ? &*entry : nullptr;
}

void SplitMemory::Remember(const BatchId& batch, std::vector<int32_t> counts, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (now >= nextSweep_) {
    nextSweep_ = now + kBetweenSweeps;
    absl::erase_if(producers_, [now](const auto& entry) { return entry.second.expires <= now; });
  }
  if (producers_.size() >= kMostProducers) producers_.erase(producers_.begin());
  Producer& producer = producers_[batch.producer];
  producer.expires = now + kLifetime;
  const auto known = FindSequence(producer.batches, batch.baseSequence);
  if (known != producer.batches.end()) producer.batches.erase(known);
  producer.batches.push_back({.id = batch, .split = {.counts = std::move(counts)}});
  if (producer.batches.size() > kMostOfAProducer) producer.batches.pop_front();
  size_.store(producers_.size(), std::memory_order_release);
}

void SplitMemory::Taken(const BatchId& batch, int64_t baseOffset) {
  const std::lock_guard lock(mutex_);
  Entry* const entry = FindSame(batch);
  if (entry == nullptr) return;
  entry->split.isTaken = true;
  entry->split.baseOffset = baseOffset;
}

void SplitMemory::Forget(const BatchId& batch) {
  const std::lock_guard lock(mutex_);
  if (FindSame(batch) == nullptr) return;
  std::deque<Entry>& batches = producers_.at(batch.producer).batches;
  batches.erase(FindSequence(batches, batch.baseSequence));
}

}  // namespace kveil::guard
