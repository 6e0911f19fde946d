// A message that was read for an interceptor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "kafka/messages/description.h"
#include "proxy/memory_budget.h"

namespace kveil::guard {

// The message, or why it cannot be read, and what it takes of the worker's memory for as long as it is there.
template <class Message>
class Decoded {
 public:
  Decoded(Bytes body, int16_t version, proxy::MemoryBudget& budget)
      : message_(kafka::Decode<Message>(body, version, &bytes_)), memory_(budget, bytes_) {}

  bool ok() const { return message_.ok(); }
  const absl::Status& status() const { return message_.status(); }
  Message& operator*() { return *message_; }
  Message* operator->() { return &*message_; }

 private:
  size_t bytes_ = 0;
  absl::StatusOr<Message> message_;
  proxy::MemoryInUse memory_;
};

}  // namespace kveil::guard
