// Which KEK keys have no row in the registry yet. A client may make up their names, so their number is bounded by the
// workload that named them first.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <map>
#include <string>

#include "keys/scope/scope.h"

namespace kveil::keys {

// What there is one KEK key for.
struct KekPlace {
  KekName name;
  int64_t window = 0;
  friend auto operator<=>(const KekPlace&, const KekPlace&) = default;
};

// Not thread-safe.
class KekNewcomers {
 public:
  static constexpr size_t kMost = 2048;
  static constexpr size_t kMostOfAWorkload = 512;

  // Which one must be removed before the workload may add one; nullptr: there is room. It is the workload's own, or one
  // of the workload that has most, and of these the one that was added or asked for longest ago.
  const KekPlace* InTheWay(const std::string& workload) const {
    const auto own = byWorkload_.find(workload);
    if (own != byWorkload_.end() && own->second.size() >= kMostOfAWorkload) return &own->second.front();
    if (entries_.size() < kMost) return nullptr;
    const auto most = std::max_element(byWorkload_.begin(), byWorkload_.end(), [](const auto& one, const auto& other) {
      return one.second.size() < other.second.size();
    });
    return &most->second.front();
  }

  void Add(const std::string& workload, const KekPlace& place) {
    std::list<KekPlace>& places = byWorkload_[workload];
    places.push_back(place);
    entries_[place] = {workload, std::prev(places.end())};
  }

  // Has it as if it were added now.
  void MoveToEnd(const KekPlace& place) {
    const auto entry = entries_.find(place);
    if (entry == entries_.end()) return;
    std::list<KekPlace>& places = byWorkload_[entry->second.workload];
    places.splice(places.end(), places, entry->second.at);
  }

  void Remove(const KekPlace& place) {
    const auto entry = entries_.find(place);
    if (entry == entries_.end()) return;
    const auto places = byWorkload_.find(entry->second.workload);
    places->second.erase(entry->second.at);
    if (places->second.empty()) byWorkload_.erase(places);
    entries_.erase(entry);
  }

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string workload;
    std::list<KekPlace>::iterator at;
  };
  std::map<std::string, std::list<KekPlace>> byWorkload_;
  std::map<KekPlace, Entry> entries_;
};

}  // namespace kveil::keys
