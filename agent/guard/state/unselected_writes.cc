#include "guard/state/unselected_writes.h"

#include "base/log.h"

namespace kveil::guard {

void UnselectedWrites::NoteRead(const std::string& workload, Clock::time_point now) {
  const MutexLock lock(mutex_);
  readers_.Put(workload, true, now);
  anyReader_.store(true, std::memory_order_release);
}

bool UnselectedWrites::NoteWrite(const std::string& workload, std::string_view topic, Clock::time_point now) {
  if (!anyReader_.load(std::memory_order_acquire)) return false;
  const MutexLock lock(mutex_);
  if (readers_.Find(workload, now) == nullptr) return false;
  if (topics_.contains(topic)) return true;
  if (topics_.size() >= kMostTopics) {
    hasMore_ = true;
    return true;
  }
  topics_.emplace(topic, workload);
  log::Warning("produce.unselected", {{"topic", topic}, {"workload", workload}, {"share", workload}});
  return true;
}

UnselectedWrites::Report UnselectedWrites::report() const {
  const MutexLock lock(mutex_);
  Report report;
  for (const auto& [name, workload] : topics_) report.topics.push_back({name, workload});
  report.hasMore = hasMore_;
  return report;
}

}  // namespace kveil::guard
