// Carries the consents of one topic into the registry.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "consents/topic_reader.h"
#include "formats/user_id.h"
#include "keys/service/key_service.h"

namespace kveil::consents {

struct TopicFollowerOptions {
  kafka_client::Options reader;
  std::string keyspace;
  formats::IdEncoding as = formats::IdEncoding::kText;
  // From then on after the topic was read to its end last, no consent of it counts.
  std::chrono::milliseconds staleAfter = std::chrono::hours(1);
  // For tests. How long the other agents wait for this one to be heard of.
  std::chrono::milliseconds lease = std::chrono::seconds(6);
  std::chrono::milliseconds heartbeat = std::chrono::seconds(1);
  // As of TopicReader::Open. Each question to the brokers waits that long behind a fetch, and records meanwhile.
  std::chrono::milliseconds fetchWait = std::chrono::milliseconds(100);
  // After a failure, before it tries again; the others come first.
  std::chrono::milliseconds pause = std::chrono::seconds(2);
};

// Follows on a thread of its own while no other agent of the registry does. Each record takes effect exactly once, at
// the moment at which the registry also learns that it was read: an agent that takes over goes on from there.
class TopicFollower {
 public:
  // `keys` outlives it.
  TopicFollower(TopicFollowerOptions options, keys::KeyService& keys);
  // Ends the thread. May take as long as a question to the registry or a look-up of a broker's name does.
  ~TopicFollower();
  // Has the thread end without waiting for it, so that several end at once. Any thread.
  void BeginEnd();

  struct Status {
    absl::Status problem;           // not OK: in words for the operator
    std::string note;               // what it does now
    bool isFollowed = false;        // by this agent
    std::optional<int64_t> behind;  // offsets that are not read yet; nullopt: not followed by this agent
    // When all of it was read last, as far as is known. nullopt: never of what is in force, or it was never known.
    std::optional<absl::Time> readAt;
    uint64_t unreadable = 0;  // records of what is in force
  };
  // Any thread.
  Status status() const;
  const std::string& keyspace() const { return options_.keyspace; }

 private:
  class Session;

  void Run();
  // Gives back what was led, if another agent should take over at once.
  void End(int64_t term, bool isOver);
  void StandBy(const absl::Status& failure);
  // False: it is to end.
  bool Sleep(std::chrono::milliseconds time);
  bool isEnding() const;
  void Tell(Status status);
  // The problem of a topic that is stale, in words. `wasRead`: it was read to its end once. `why`: OK if that is not
  // known.
  absl::Status NothingCounts(bool wasRead, const absl::Status& why) const;

  const TopicFollowerOptions options_;
  keys::KeyService& keys_;
  mutable Mutex mutex_;
  std::condition_variable_any ends_;
  bool isEnding_ ABSL_GUARDED_BY(mutex_) = false;
  Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace kveil::consents
