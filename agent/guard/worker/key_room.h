// Which batches may fill a worker's key cache at a time.
#pragma once

#include <cstddef>
#include <list>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"
#include "io/loop.h"
#include "io/task.h"
#include "keys/cache/key_cache.h"

namespace kveil::guard {

// Room in a worker's key cache for batches that need very many keys at once. Without it, several of them would go on
// pushing one another's keys out.
//
// One batch of a workload has room at a time, while the keys of all together fit. Who finds none waits: workloads have
// their turns first come first served, and so have the batches of a workload, each of which is a turn. Nobody overtakes
// because it needs less. One thread; every call takes constant time.
class KeyRoom {
 public:
  // The cache keeps four times its capacity while it is in use; the fourth part is everybody else's.
  static constexpr size_t kMostKeys = 3 * keys::kKeyCacheCapacity;

  KeyRoom() = default;
  KeyRoom(const KeyRoom&) = delete;
  KeyRoom& operator=(const KeyRoom&) = delete;

  // Waits for room until `deadline`. Returns whether it was found; then Leave with the same arguments. A batch of more
  // keys than there is room for gets it alone.
  io::Task<bool> Enter(io::Loop& loop, std::string_view share, size_t keys, io::Deadline deadline) {
    Waiter waiter(loop, keys, deadline);
    const auto [line, isFirst] = lines_.try_emplace(ToAbsl(share));
    std::list<Waiter*>& list = isFirst ? turns_ : line->second;
    waiter.hasTurn = isFirst;
    waiter.place = list.insert(list.end(), &waiter);
    if (isFirst) Serve();
    co_await waiter.sleep;
    if (!waiter.inside) GiveUp(share, waiter);
    co_return waiter.inside;
  }
  void Leave(std::string_view share, size_t keys) {
    keys_ -= keys;
    NextOf(share);
    Serve();
  }

 private:
  struct Waiter {
    Waiter(io::Loop& loop, size_t keys, io::Deadline deadline) : keys(keys), sleep(loop, deadline) {}
    const size_t keys;
    io::Loop::SleepAwaiter sleep;
    std::list<Waiter*>::iterator place;  // in turns_, or in its workload's line
    bool hasTurn = false;                // it is in turns_
    bool inside = false;
  };

  void Serve() {
    while (!turns_.empty() && (keys_ == 0 || keys_ + turns_.front()->keys <= kMostKeys)) {
      Waiter& next = *turns_.front();
      turns_.pop_front();
      keys_ += next.keys;
      next.inside = true;
      next.sleep.End();
    }
  }
  // The workload has neither a turn nor room any more.
  void NextOf(std::string_view share) {
    const auto found = lines_.find(ToAbsl(share));
    std::list<Waiter*>& line = found->second;
    if (line.empty()) {
      lines_.erase(found);
      return;
    }
    line.front()->hasTurn = true;
    turns_.splice(turns_.end(), line, line.begin());
  }
  void GiveUp(std::string_view share, const Waiter& waiter) {
    if (!waiter.hasTurn) {
      lines_.find(ToAbsl(share))->second.erase(waiter.place);
      return;
    }
    turns_.erase(waiter.place);
    NextOf(share);
    Serve();
  }

  size_t keys_ = 0;           // of those inside
  std::list<Waiter*> turns_;  // at most one of a workload, and none of one that has a batch inside
  // By share: who waits behind the batch of the same workload that is inside or has a turn. An entry for each of these.
  absl::flat_hash_map<std::string, std::list<Waiter*>> lines_;
};

}  // namespace kveil::guard
