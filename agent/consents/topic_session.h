// What the agent does that follows a topic: from when it leads until another agent does, or something fails.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consents/topic_follower.h"
#include "consents/topic_position.h"
#include "consents/topic_reader.h"

namespace kveil::consents {

// The follower's thread uses it.
class TopicFollower::Session {
 public:
  Session(TopicFollower& follower, keys::LedSource led) : follower_(follower), led_(std::move(led)) {}

  // OK: the follower ends, another agent follows, or the topic is to be read by a new session.
  absl::Status Run();
  bool hasRegistryFailed() const { return hasRegistryFailed_; }
  bool hasStarted() const { return hasStarted_; }
  // Of what LeadSource gave.
  int64_t term() const { return led_.source.term; }

 private:
  using SteadyClock = std::chrono::steady_clock;
  using milliseconds = std::chrono::milliseconds;
  // The ends of the partitions as the brokers told them, and when they were asked.
  struct Goal {
    std::vector<int64_t> ends;
    SteadyClock::time_point asked;
    absl::Time askedAt = absl::InfinitePast();
  };

  const TopicFollowerOptions& options() const { return follower_.options_; }
  absl::Status Start();
  absl::Status BeginAnew(std::string_view reason);
  // Why the topic has to be read from its beginning; empty: it goes on where it was left.
  std::string WhyAnew(const TopicReader::Description& topic, const std::optional<TopicPosition>& before) const;
  // kCancelled: a new session is to read the topic.
  absl::Status TakeNext();
  absl::Status Take(const TopicReader::Event& event);
  void TakeRecord(const TopicReader::Event& event);
  void NoteUnreadable(const TopicReader::Event& event, std::string_view reason);
  absl::Time NotBefore(const TopicReader::Event& event) const;
  void NoteAhead(const TopicReader::Event& event);
  // Writes the records that wait and the position. `age`: as in Registry::SourceMove.
  absl::Status Move(std::optional<milliseconds> age);
  absl::StatusOr<keys::FollowedRecords> TryMove(std::optional<milliseconds> age);
  absl::Status Look();
  absl::Status CheckPartitions();
  bool HasRead(const std::vector<int64_t>& ends) const;
  // The last ends that are read to. nullopt: none since those that were.
  std::optional<Goal> TakeGoal(Goal now);
  bool IsStale() const;
  absl::Status Problem() const;
  void Tell();

  TopicFollower& follower_;
  keys::LedSource led_;
  std::unique_ptr<TopicReader> reader_;
  int64_t generation_ = 0;
  TopicPosition position_;
  std::vector<bool> isUnverified_;  // of each partition: the record that was the last one has not come again yet
  Goal look_, formerLook_;          // the last two that were answered
  std::optional<Goal> goal_;        // is to be read to next: while records come all the time, the ends of now never are
  std::vector<keys::ConsentRecord> records_;
  SteadyClock::time_point gatheredSince_;
  SteadyClock::time_point nextLook_;
  SteadyClock::time_point answered_;  // when the brokers did last
  absl::Status unanswered_;           // why they do not now
  uint64_t ahead_ = 0;                // records whose time has yet to come
  uint64_t held_ = 0;                 // consents that a withdrawal by command holds against, whatever came first
  int looks_ = 0;
  bool isCurrent_ = false;   // the last look has found ends that were read to
  bool wasCurrent_ = false;  // this generation
  bool isLost_ = false;      // another agent follows
  bool hasRegistryFailed_ = false;
  bool hasStarted_ = false;
};

}  // namespace kveil::consents
