// The agent's side of the store. The store may be away, or be restarted: it is told everything again then.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/descriptor_store.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "fdstore/message.h"

namespace kveil::fdstore {

// What an agent keeps duplicates of. Those that a full store has no room for take the place of what is forgotten.
inline constexpr size_t kMostHeld = 2 * kMostKept;

// Any thread. Only TakeKept waits.
class Client : public DescriptorStore {
 public:
  // `patience`: how long TakeKept waits for a store that has accepted the connection.
  explicit Client(std::string path, std::chrono::milliseconds patience = std::chrono::seconds(10));

  // False: there are too many, by kMostHeld, or no more descriptors. Otherwise the store has it as soon as it is there,
  // and has room, which may be when others were forgotten.
  bool Keep(const std::string& name, int fd) override;
  void Forget(const std::string& name) override;
  // Call it once, before the others. Without a store, or one that does not answer in time, there is nothing. What an
  // earlier agent had kept is forgotten then.
  std::vector<KeptDescriptor> TakeKept() override;
  // This process closes its listeners: the duplicates that it has itself are closed, what the store has stays.
  void End();

  // Connects again if need be, and tells the store what it has not heard. Call it about once a second. An error: some
  // connects will be refused while the next agent starts, and why.
  absl::Status Watch();

 private:
  // False: it is in `refused_`.
  bool KeepDuplicate(const std::string& name, int fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Connect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Hear() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // An error: the connection is to end.
  absl::Status Do(Message message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status HearOf(std::string name, UniqueFd fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Owe(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OweWhatThereIsRoomFor() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SayOwed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SaysTooLittle() const;
  void Close(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const std::chrono::milliseconds patience_;

  Mutex mutex_;
  UniqueFd socket_ ABSL_GUARDED_BY(mutex_);
  bool hasHello_ ABSL_GUARDED_BY(mutex_) = false;     // on this connection, as the next one
  bool hasHeardAll_ ABSL_GUARDED_BY(mutex_) = false;  // of what the store keeps
  bool wasTaken_ ABSL_GUARDED_BY(mutex_) = false;     // TakeKept has returned
  bool isEnding_ ABSL_GUARDED_BY(mutex_) = false;
  size_t most_ ABSL_GUARDED_BY(mutex_) = kMostKept;  // that the store said last
  absl::Status problem_ ABSL_GUARDED_BY(mutex_);     // why the last connection was none, until one is
  std::vector<KeptDescriptor> earlier_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, UniqueFd> kept_ ABSL_GUARDED_BY(mutex_);  // what the store is to keep
  std::set<std::string> stored_ ABSL_GUARDED_BY(mutex_);          // what the store has, as far as it is connected
  std::set<std::string> refused_ ABSL_GUARDED_BY(mutex_);         // what could not be kept; at most kMostKept
  std::deque<std::string> owed_ ABSL_GUARDED_BY(mutex_);          // names of which the store does not know the latest
};

}  // namespace kveil::fdstore
