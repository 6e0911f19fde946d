// What an agent may confirm: up to which erasure all its caches have dropped the keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

namespace kveil::keys {

// Not thread-safe.
class Confirmations {
 public:
  // While there are no caches, what was erased up to `number` is in none.
  explicit Confirmations(int64_t number) : told_(number), confirmed_(number) {}

  // The caches were told of all erasures up to `number`, by the revocations up to `generation`.
  void Told(int64_t number, uint64_t generation) {
    if (number == told_) return;
    if (number < told_) {  // a restored registry: its numbers come again
      waiting_.clear();
      confirmed_ = std::min(confirmed_, number);
    }
    told_ = number;
    // However many erasures come, the first of these is waited for.
    if (waiting_.size() < kMostWaiting) waiting_.emplace_back();
    waiting_.back() = {number, generation};
  }

  // The registry was opened anew, perhaps from a backup or on another server, with erasures up to `number`: what was
  // confirmed may be about others. The caches were told to drop everything, by the revocations up to `generation`.
  void Reopened(int64_t number, uint64_t generation) {
    waiting_.clear();
    waiting_.push_back({number, generation});
    told_ = number;
    confirmed_ = 0;
  }

  // Every cache has taken in the revocations up to `generation`. Returns whether more can be confirmed now.
  bool TakenIn(uint64_t generation) {
    const int64_t before = confirmed_;
    for (; !waiting_.empty() && waiting_.front().generation <= generation; waiting_.pop_front()) {
      confirmed_ = waiting_.front().number;
    }
    return confirmed_ != before;
  }

  bool isWaiting() const { return !waiting_.empty(); }
  int64_t confirmed() const { return confirmed_; }

 private:
  static constexpr size_t kMostWaiting = 64;
  struct Entry {
    int64_t number = 0;
    uint64_t generation = 0;
  };

  int64_t told_;
  int64_t confirmed_;
  std::deque<Entry> waiting_;  // both members grow
};

}  // namespace kveil::keys
