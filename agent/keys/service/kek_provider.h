// A provider of KEKs, asked on a few threads of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/mutex.h"
#include "crypto/secret.h"
#include "keys/root/call_pool.h"
#include "keys/root/circuit_breaker.h"
#include "keys/root/open_root_key.h"
#include "keys/root/root_key.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

// One attempt per question. After several without an answer, whichever of its keys they were about, questions fail at
// once until one that is let through is answered. Used by one thread.
class KekProvider {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `steadyNow`: any thread calls it.
  KekProvider(std::string name, RootKeyOptions options, std::function<Time()> steadyNow);

  // One of its keys, see OpenKek.
  absl::StatusOr<std::unique_ptr<RootKey>> Open(const std::string& key) const { return OpenKek(options_, key); }

  struct Question {
    KekName kek;
    int64_t window = 0;
    uint64_t opening = 0;  // of the registry
    std::shared_ptr<RootKey> root;
    ByteBuffer wrapped;  // empty: a key is to be made
    ByteBuffer context;
  };
  struct Answer {
    Question question;
    absl::StatusOr<RootKey::DataKey> key;  // `wrapped` is set of one that was made
    Time asked;                            // when the provider was
  };
  // False: as many wait already as may.
  bool Ask(Question question);
  // Those that have come since.
  std::vector<Answer> Take();

  // Any thread may call.
  RootKey::Calls calls() const;

 private:
  Answer AskNow(Question question);

  const std::string name_;
  const RootKeyOptions options_;
  const std::function<Time()> steadyNow_;
  CircuitBreaker breaker_{CircuitBreaker::Options{}};
  std::atomic<uint64_t> calls_{0}, errors_{0}, nanoseconds_{0};
  Mutex mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  CallPool pool_;  // last, so that it ends first
};

}  // namespace kveil::keys
