// Registry tables in this process that threads share, with nothing in between.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "simulated_registry.h"

namespace kveil::keys {

struct SharedTables {
  Mutex mutex;
  RegistryTables tables ABSL_GUARDED_BY(mutex);
  std::function<absl::Time()> now = absl::Now;  // the server's clock; any thread may ask it
};

class DirectWire : public RegistryWire {
 public:
  explicit DirectWire(std::shared_ptr<SharedTables> shared) : shared_(std::move(shared)) {}

  bool Connect(Deadline) override { return true; }
  Answer Ask(Request request, Deadline) override {
    const MutexLock lock(shared_->mutex);
    request(shared_->tables, absl::ToUnixMillis(shared_->now()));
    return Answer::kHere;
  }
  Answer Await(Deadline) override { return Answer::kBroken; }  // none is ever late
  void GiveUp() override {}
  bool TakeNotification() override { return false; }
  bool isNotified() const override { return false; }
  Deadline now() const override { return std::chrono::steady_clock::now(); }

 private:
  const std::shared_ptr<SharedTables> shared_;
};

}  // namespace kveil::keys
