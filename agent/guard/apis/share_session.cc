#include "guard/apis/share_session.h"

namespace kveil::guard {
namespace {

using Kept = proxy::MemoryBudget::Kept;

// Of an entry of a table that has just grown.
constexpr size_t kEntryBytes = 96;
// What every connection may have without being charged: some dozen topics of some partitions.
constexpr size_t kFreeBytes = 16 << 10;
// What is charged at a time.
constexpr size_t kChargedBytes = 16 << 10;

}  // namespace

void ShareSession::Clear() {
  asked_ = {};
  told_ = {};
  withheld_ = {};
  request_ = 0;
  if (charged_ > 0) budget_->ReleaseKept(workload_, std::exchange(charged_, 0), Kept::kUntilForgotten);
}

void ShareSession::Begin(proxy::MemoryBudget& budget) {
  budget_ = &budget;
  ++request_;
}

bool ShareSession::HasRoom() {
  if (size() >= kMost) return false;
  if ((size() + 1) * kEntryBytes <= kFreeBytes + charged_) return true;
  if (!budget_->TryKeep(workload_, kChargedBytes, Kept::kUntilForgotten)) return false;
  charged_ += kChargedBytes;
  return true;
}

void ShareSession::Ask(const kafka::TopicId& id) {
  if (!asked_.contains(id) && HasRoom()) asked_.insert(id);
}

void ShareSession::Tell(const Partition& partition, int32_t maxBytes) {
  withheld_.erase(partition);
  if (told_.contains(partition) || HasRoom()) told_.insert_or_assign(partition, maxBytes);
}

bool ShareSession::Withhold(const Partition& partition, int32_t maxBytes) {
  const bool wasTold = told_.erase(partition) > 0;
  if (withheld_.contains(partition) || HasRoom()) withheld_.insert_or_assign(partition, Withheld{maxBytes, request_});
  return wasTold;
}

void ShareSession::Forget(const Partition& partition) {
  told_.erase(partition);
  withheld_.erase(partition);
}

}  // namespace kveil::guard
