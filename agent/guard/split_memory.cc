#include "guard/split_memory.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace kveil::guard {
namespace {

constexpr std::chrono::seconds kBetweenSweeps{10};

template <typename Batches>
auto FindBatch(Batches& batches, int32_t baseSequence) {
  return std::find_if(batches.begin(), batches.end(),
                      [&](const auto& entry) { return entry.baseSequence == baseSequence; });
}

}  // namespace

std::optional<SplitMemory::Split> SplitMemory::Find(const BatchId& batch, int32_t records,
                                                    Clock::time_point now) const {
  const std::lock_guard lock(mutex_);
  const auto producer = producers_.find(batch.producer);
  if (producer == producers_.end() || producer->second.expires <= now) return std::nullopt;
  const auto entry = FindBatch(producer->second.batches, batch.baseSequence);
  if (entry == producer->second.batches.end()) return std::nullopt;
  const std::vector<int32_t>& counts = entry->split.counts;
  if (std::accumulate(counts.begin(), counts.end(), int64_t{0}) != records) return std::nullopt;
  return entry->split;
}

void SplitMemory::Remember(const BatchId& batch, std::vector<int32_t> counts, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (now >= nextSweep_) {
    nextSweep_ = now + kBetweenSweeps;
    absl::erase_if(producers_, [now](const auto& entry) { return entry.second.expires <= now; });
  }
  if (producers_.size() >= kMostProducers) producers_.clear();
  Producer& producer = producers_[batch.producer];
  producer.expires = now + kLifetime;
  const auto known = FindBatch(producer.batches, batch.baseSequence);
  if (known != producer.batches.end()) producer.batches.erase(known);
  producer.batches.push_back({.baseSequence = batch.baseSequence, .split = {.counts = std::move(counts)}});
  if (producer.batches.size() > kMostOfAProducer) producer.batches.pop_front();
  size_.store(producers_.size(), std::memory_order_release);
}

void SplitMemory::Taken(const BatchId& batch, int64_t baseOffset) {
  const std::lock_guard lock(mutex_);
  const auto producer = producers_.find(batch.producer);
  if (producer == producers_.end()) return;
  const auto entry = FindBatch(producer->second.batches, batch.baseSequence);
  if (entry == producer->second.batches.end()) return;
  entry->split.isTaken = true;
  entry->split.baseOffset = baseOffset;
}

}  // namespace kveil::guard
