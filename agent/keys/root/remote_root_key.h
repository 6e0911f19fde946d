// What every root key needs that is a network away, around the provider that knows how to ask.
#pragma once

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "keys/root/call_pool.h"
#include "keys/root/circuit_breaker.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// The provider makes one attempt per call, blocks until it has an answer or the deadline is over, and knows nothing of
// what is here:
//
// - attempts run on a few threads, and a caller waits for its own deadline at most, whatever the provider does;
// - what passes by itself (kUnavailable) is tried again within the deadline, after pauses with full jitter;
// - equal calls of Unwrap at the same time are one;
// - after several failures in a row, calls fail at once until one that is let through is answered (CircuitBreaker);
// - Check asks nobody: it answers from what was seen lately, and has the provider asked when that was long ago;
// - calls, errors and times are counted.
class RemoteRootKey : public RootKey {
 public:
  struct Options {
    std::string provider;                           // its name in metrics: "vault"
    size_t threads = 3;                             // attempts at once
    size_t mostWaiting = 64;                        // further ones fail at once
    std::chrono::milliseconds attemptLimit{8'000};  // of one attempt, within the call's deadline
    std::chrono::milliseconds firstPause{100};      // before the second attempt at most; doubles from there
    std::chrono::milliseconds longestPause{2'000};
    CircuitBreaker::Options breaker{};
    std::chrono::milliseconds checkInterval{15'000};  // how long an answer of the provider says that it is well
    // For so long without an answer, new keys are sealed all the same: none of them needs the provider, and what wraps
    // them was unwrapped by it a short time ago.
    std::chrono::milliseconds outageLimit{std::chrono::hours(1)};
  };

  RemoteRootKey(std::unique_ptr<RootKey> provider, Options options);
  // The provider has to end its calls after its Stop.
  ~RemoteRootKey() override;

  const std::string& name() const override { return provider_->name(); }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // Neither these two wait for the circuit breaker nor does it hear of their failures, and Check does not either: one
  // right may be lacking, or one path be throttled, while all that is in use goes on.
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> UnwrapRewrapped(absl::Span<const WrappedKey> keys,
                                                                 Deadline deadline) override;
  std::string VersionOf(const WrappedKey& key) const override { return provider_->VersionOf(key); }
  absl::Status Check(Deadline deadline) override;

  bool isRemote() const override { return true; }
  absl::Status Warning() const override;
  void Stop() override;
  Stats stats() const override;

  // Asks the provider, and waits for it: whether the key is there and may be used. For the start.
  absl::Status Ask(Deadline deadline);

 private:
  using Clock = std::chrono::steady_clock;
  using Answers = std::vector<absl::StatusOr<crypto::SecretKey>>;
  using Flight = std::shared_future<std::shared_ptr<const Answers>>;
  struct OwnedKey {
    ByteBuffer wrapped;
    ByteBuffer context;
  };

  // By operation, as one may be out or refused while others are answered.
  struct LastWord {
    Clock::time_point answered = Clock::now();
    absl::Status outage;   // of the last attempt, when it was not answered
    absl::Status refused;  // of the last answer: what needs the operator
  };

  // Asks for what is not answered yet, as often as it takes.
  Answers UnwrapNow(Operation operation, const std::vector<OwnedKey>& keys, Deadline deadline);
  absl::Status UnwrapOnce(const std::vector<OwnedKey>& keys, Answers& answers, Deadline deadline);
  absl::Status AskNow(Deadline deadline);
  // Attempts until one is answered or there is no time left for another.
  template <typename Attempt>
  absl::Status Retry(Operation operation, Deadline deadline, Attempt attempt);
  void Note(Operation operation, const absl::Status& status, Clock::time_point begun, Clock::time_point end);
  void AskIfDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const LastWord& Last(Operation operation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return last_[static_cast<size_t>(operation)];
  }
  // Of what an agent that starts needs. `since` is when that was answered last.
  absl::Status Outage(Clock::time_point& since) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Late() const;

  const std::unique_ptr<RootKey> provider_;
  const Options options_;
  CircuitBreaker breaker_;

  struct Counters {
    std::atomic<uint64_t> calls{0}, errors{0}, nanoseconds{0};
  };
  std::array<Counters, kOperations> counters_;

  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, Flight> flights_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point heard_ ABSL_GUARDED_BY(mutex_) = Clock::now();  // when the last attempt ended
  std::array<LastWord, kOperations> last_ ABSL_GUARDED_BY(mutex_);
  bool isAsking_ ABSL_GUARDED_BY(mutex_) = false;

  CallPool pool_;  // last, so that it ends first
};

}  // namespace kveil::keys
