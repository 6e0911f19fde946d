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
#include "keys/root/open_root_key.h"
#include "keys/root/root_key.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

// One attempt per question: whoever asks paces the questions about each key. Questions about KEK keys that are there
// have threads of their own, so that those about names that a client makes up do not hold them up. Used by one thread.
class KekProvider {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `steadyNow`: any thread calls it.
  KekProvider(RootKeyOptions options, std::function<Time()> steadyNow);

  // One of its keys, see KekOpener. Any thread may call these.
  absl::StatusOr<std::unique_ptr<RootKey>> Open(const std::string& key) const { return opener_.Open(key); }
  void Stop() { opener_.Stop(); }

  struct Question {
    KekName kek;
    int64_t window = 0;
    uint64_t number = 0;   // as the caller likes
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
  // Whether another question may wait, by whether it is about a KEK key that is there.
  bool hasRoom(bool isThere) const { return PoolOf(isThere).hasRoom(); }
  // False: as many wait already as may.
  bool Ask(Question question);
  // Those that have come since.
  std::vector<Answer> Take();

  // Any thread may call.
  RootKey::Calls calls() const;

 private:
  Answer AskNow(Question question);
  const CallPool& PoolOf(bool isThere) const { return isThere ? poolOfThoseThere_ : poolOfNewOnes_; }

  KekOpener opener_;
  const std::function<Time()> steadyNow_;
  std::atomic<uint64_t> calls_{0}, errors_{0}, nanoseconds_{0};
  Mutex mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  CallPool poolOfThoseThere_, poolOfNewOnes_;  // last, so that they end first
};

}  // namespace kveil::keys
