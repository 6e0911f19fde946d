// What a share session is about (KIP-932). Its requests name only what is new, so this is kept across requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "kafka/topic_id.h"
#include "proxy/memory_budget.h"

namespace kveil::guard {

// One per connection, which has one session at a time. What it remembers counts against the worker's memory, within the
// workload's share (identity::Workload::share). If there is no room for more, the rest is not remembered.
class ShareSession {
 public:
  using Partition = std::pair<kafka::TopicId, int32_t>;
  struct Withheld {
    int32_t maxBytes = 0;
    uint64_t request = 0;  // the one that named it last, counted over the session
  };
  // The most topics and partitions that are remembered. No member of a group has more partitions at one broker.
  static constexpr size_t kMost = 2'000;

  explicit ShareSession(std::string workload) : workload_(std::move(workload)) {}
  ~ShareSession() { Clear(); }
  ShareSession(const ShareSession&) = delete;
  ShareSession& operator=(const ShareSession&) = delete;

  // A session begins or ends.
  void Clear();
  // A request of the session begins. From now on memory counts against this budget.
  void Begin(proxy::MemoryBudget& budget);
  uint64_t request() const { return request_; }

  // The client has asked for the topic.
  void Ask(const kafka::TopicId& id);
  // The broker is told of the partition.
  void Tell(const Partition& partition, int32_t maxBytes);
  // The broker is not told, because the workload may not read it. Returns whether it had been told before.
  bool Withhold(const Partition& partition, int32_t maxBytes);
  // The client does not want the partition any more.
  void Forget(const Partition& partition);

  // Calls `mayRead(partition, withheld)` for each partition that is withheld. If it returns true, the broker is told
  // now.
  template <typename Function>
  void TellOf(Function mayRead) {
    absl::erase_if(withheld_, [&](const auto& entry) {
      if (!mayRead(entry.first, entry.second)) return false;
      told_.insert_or_assign(entry.first, entry.second.maxBytes);
      return true;
    });
  }
  // Calls `isDenied(partition)` for each partition that the broker was told of. If it returns true, it is withheld now.
  template <typename Function>
  void WithholdAgain(Function isDenied) {
    absl::erase_if(told_, [&](const auto& entry) {
      if (!isDenied(entry.first)) return false;
      withheld_.insert_or_assign(entry.first, Withheld{entry.second, request_});
      return true;
    });
  }

  const absl::flat_hash_set<kafka::TopicId>& asked() const { return asked_; }
  const absl::flat_hash_map<Partition, Withheld>& withheld() const { return withheld_; }
  size_t size() const { return asked_.size() + told_.size() + withheld_.size(); }

 private:
  bool HasRoom();

  const std::string workload_;
  proxy::MemoryBudget* budget_ = nullptr;
  size_t charged_ = 0;
  uint64_t request_ = 0;
  absl::flat_hash_set<kafka::TopicId> asked_;
  absl::flat_hash_map<Partition, int32_t> told_;  // and its partitionMaxBytes (version 0)
  absl::flat_hash_map<Partition, Withheld> withheld_;
};

}  // namespace kveil::guard
