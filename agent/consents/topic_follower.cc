#include "consents/topic_follower.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "consents/topic_position.h"
#include "consents/topic_session.h"

namespace kveil::consents {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

constexpr milliseconds kBetweenSessions{100};

}  // namespace

TopicFollower::TopicFollower(TopicFollowerOptions options, keys::KeyService& keys)
    : options_(std::move(options)), keys_(keys) {
  thread_ = std::thread([this] { Run(); });
}

TopicFollower::~TopicFollower() {
  BeginEnd();
  thread_.join();
}

void TopicFollower::BeginEnd() {
  {
    const MutexLock lock(mutex_);
    isEnding_ = true;
  }
  ends_.notify_all();
}

TopicFollower::Status TopicFollower::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

bool TopicFollower::isEnding() const {
  const MutexLock lock(mutex_);
  return isEnding_;
}

bool TopicFollower::Sleep(milliseconds time) {
  const auto until = SteadyClock::now() + time;
  const MutexLock lock(mutex_);
  while (!isEnding_ && SteadyClock::now() < until) ends_.wait_until(mutex_, until);
  return !isEnding_;
}

void TopicFollower::Tell(Status status) {
  const MutexLock lock(mutex_);
  status_ = std::move(status);
}

void TopicFollower::Run() {
  absl::Status failure;
  while (!isEnding()) {
    bool hasFailed = false;  // at the brokers
    absl::StatusOr<std::optional<keys::LedSource>> led = keys_.LeadSource(options_.keyspace, options_.lease);
    if (led.ok() && led->has_value()) {
      log::Info("consents.following", {{"topic", options_.reader.topic}, {"keyspace", options_.keyspace}});
      Session session(*this, **std::move(led));
      failure = session.Run();
      hasFailed = !failure.ok() && !session.hasRegistryFailed();
      // What fails at once may fail for all agents: then the lease paces them.
      const bool isOver = isEnding() || (hasFailed && session.hasStarted());
      End(session.term(), isOver && !session.hasRegistryFailed());
      if (failure.ok() && !Sleep(kBetweenSessions)) return;
      if (failure.ok()) continue;
      log::Warning("consents.stopped", {{"topic", options_.reader.topic}, {"reason", failure}});
    } else if (!led.ok()) {
      failure = led.status();
    }
    StandBy(failure);
    // Longer than the lease, so that an agent that reaches the brokers comes first.
    if (!Sleep(hasFailed ? options_.lease + options_.pause : options_.pause)) return;
  }
}

absl::Status TopicFollower::NothingCounts(bool wasRead, const absl::Status& why) const {
  return absl::UnavailableError(StrCat("no consent in keyspace ", options_.keyspace, " that comes from topic ",
                                       options_.reader.topic, " counts: it was not read to its end ",
                                       wasRead ? "for too long (staleAfter)" : "yet",
                                       why.ok() ? "" : StrCat(": ", ToStd(why.message()))));
}

// What the session told is not so any more.
void TopicFollower::End(int64_t term, bool isOver) {
  if (isOver) (void)keys_.ReleaseSource(options_.keyspace, term);
  const MutexLock lock(mutex_);
  status_.isFollowed = false;
  status_.behind = std::nullopt;
  status_.note = "this agent does not follow any more";
}

// Says how it stands with the topic, whoever follows.
void TopicFollower::StandBy(const absl::Status& failure) {
  const absl::StatusOr<std::vector<keys::Registry::Source>> sources = keys_.ReadSources();
  if (!sources.ok()) {
    const MutexLock lock(mutex_);
    status_.problem = sources.status();
    status_.note = "";
    return;
  }
  const auto source = std::find_if(sources->begin(), sources->end(),
                                   [this](const auto& one) { return one.keyspace == options_.keyspace; });
  if (source == sources->end()) return Tell({failure, ""});
  const std::optional<TopicPosition> position = Decode(source->state);
  const std::string unreadable = position.has_value() ? Describe(position->unreadable) : "";
  Status status;
  if (position.has_value()) status.unreadable = position->unreadable.count;
  if (source->age.has_value()) status.readAt = absl::Now() - absl::FromChrono(*source->age);
  if (source->age.has_value() && *source->age < source->staleAfter) {
    // Whoever else can follow does. If nobody can, this agent says why.
    if (*source->age >= 2 * options_.lease) status.problem = failure;
    status.note = StrCat("topic ", options_.reader.topic, " was read to its end ",
                         std::chrono::duration_cast<seconds>(*source->age).count(), " s ago, by agent ",
                         source->follower, unreadable);
    return Tell(std::move(status));
  }
  status.problem = NothingCounts(source->age.has_value(), failure);
  status.note = StrCat("agent ", source->follower, " follows or was the last one that did", unreadable);
  Tell(std::move(status));
}

}  // namespace kveil::consents
