#include "base/log_limit.h"

#include <algorithm>
#include <utility>

#include "base/mutex.h"
#include "base/text.h"

namespace kveil::log {

void LineLimit::Fill(Bucket& bucket, const Rate& rate, Clock::time_point now) {
  const std::chrono::duration<double> passed = now - bucket.filledAt;
  bucket.lines = std::min(rate.burst, bucket.lines + passed.count() * rate.perSecond);
  bucket.filledAt = now;
}

LineLimit::Bucket& LineLimit::BucketOf(std::string_view event, std::string_view workload, Clock::time_point now) {
  std::string key = StrCat(event, " ", workload);
  if (const auto known = workloads_.find(key); known != workloads_.end()) return known->second;
  if (workloads_.size() >= options_.mostWorkloads) {
    // A bucket that is full again is as good as none.
    for (auto entry = workloads_.begin(); entry != workloads_.end();) {
      Fill(entry->second, options_.ofWorkload, now);
      const auto here = entry++;
      if (here->second.lines >= options_.ofWorkload.burst) workloads_.erase(here);
    }
    if (workloads_.size() >= options_.mostWorkloads) key = std::string(event);
  }
  return workloads_.try_emplace(std::move(key), Bucket{options_.ofWorkload.burst, now}).first->second;
}

bool LineLimit::Admit(std::string_view event, std::string_view workload, Clock::time_point now) {
  const MutexLock lock(mutex_);
  Event& kind = events_.try_emplace(std::string(event), Event{{options_.ofEvent.burst, now}}).first->second;
  Fill(kind.bucket, options_.ofEvent, now);
  Bucket* const own = workload.empty() ? nullptr : &BucketOf(event, workload, now);
  if (own != nullptr) Fill(*own, options_.ofWorkload, now);
  if (kind.bucket.lines < 1 || (own != nullptr && own->lines < 1)) {
    ++kind.suppressed;
    kind.lastWorkload = std::string(workload);
    ++suppressed_;
    return false;
  }
  kind.bucket.lines -= 1;
  if (own != nullptr) own->lines -= 1;
  return true;
}

std::vector<LineLimit::Suppressed> LineLimit::TakeSuppressed() {
  const MutexLock lock(mutex_);
  std::vector<Suppressed> taken;
  for (auto& [name, event] : events_) {
    if (event.suppressed == 0) continue;
    taken.push_back({name, std::exchange(event.suppressed, 0), std::exchange(event.lastWorkload, {})});
  }
  return taken;
}

uint64_t LineLimit::suppressed() const {
  const MutexLock lock(mutex_);
  return suppressed_;
}

}  // namespace kveil::log
