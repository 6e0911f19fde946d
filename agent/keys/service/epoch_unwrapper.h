// Has the root key unwrap a registry's epoch keys, without holding up whoever asks for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "keys/registry/registry.h"
#include "keys/root/root_key.h"
#include "keys/service/registry_keys.h"

namespace kveil::keys {

// Used by one thread. A root key on this machine is asked at once, one that is a network away on a thread of its own,
// where it takes as long as it takes.
class EpochUnwrapper {
 public:
  // `root` outlives this.
  EpochUnwrapper(RootKey& root, RegistryKeys::Owner owner);
  // Stops the root key.
  ~EpochUnwrapper();
  EpochUnwrapper(const EpochUnwrapper&) = delete;
  EpochUnwrapper& operator=(const EpochUnwrapper&) = delete;

  // Begins to unwrap what was read from the registry at its `opening`. Not while it is busy.
  void Begin(std::vector<Registry::Epoch> rows, uint64_t opening);
  // Whether what was begun is not answered yet.
  bool isBusy() const;

  struct Answer {
    absl::StatusOr<RegistryKeys::Epochs> epochs;
    uint64_t opening = 0;
  };
  // The answer to what was begun, once.
  std::optional<Answer> Take();

 private:
  struct Question {
    std::vector<Registry::Epoch> rows;
    uint64_t opening = 0;
  };
  Answer Ask(const Question& question);
  void Run();

  RootKey& root_;
  const RegistryKeys::Owner owner_;

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Question> question_ ABSL_GUARDED_BY(mutex_);  // until it is answered
  std::optional<Answer> answer_ ABSL_GUARDED_BY(mutex_);
  bool isStopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // of a remote root key only
};

}  // namespace kveil::keys
