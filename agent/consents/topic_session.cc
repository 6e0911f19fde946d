#include "consents/topic_session.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "users/consent_record.h"

namespace kveil::consents {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

constexpr milliseconds kBrokerTimeout{2000};
// How long the brokers may not answer before another agent may try.
constexpr seconds kPatience{10};
// How long records wait for more to come, while some come all the time, and when none does.
constexpr milliseconds kGather{50};
constexpr milliseconds kGatherIdle{5};
// Looks between two at the number of partitions.
constexpr int kLooksAtPartitions = 10;
// Kafka keeps tombstones for delete.retention.ms, a day by default. After a longer pause, some may be gone unread.
constexpr absl::Duration kLongestPause = absl::Hours(12);
constexpr size_t kMostPartitionsTold = 8;
// A record's time may be that much ahead of this agent's clock before it is told of. To a withdrawal by command, each
// millisecond matters (keys::ConsentRecord).
constexpr absl::Duration kWorthTelling = absl::Seconds(1);

std::string TextOf(int64_t time) {
  return absl::FormatTime(absl::RFC3339_sec, absl::FromUnixMillis(time), absl::UTCTimeZone());
}

}  // namespace

std::string TopicFollower::Session::WhyAnew(const TopicReader::Description& topic,
                                            const std::optional<TopicPosition>& before) const {
  if (led_.source.generation == 0) return "it was never read";
  if (led_.source.state == keys::kReadAnew) return "a command has asked for it";
  if (!before.has_value()) return "it is not known how far it was read";
  if (before->topic != options().reader.topic) return "the configuration names another topic";
  if (before->as != formats::NameOf(options().as)) return "the configuration names another \"as\"";
  if (before->cluster != topic.cluster) return "it is in another cluster";
  if (before->partitions.size() != static_cast<size_t>(topic.partitions)) return "it has another number of partitions";
  if (before->hasLeftOut) return "records of users whose stored consents could not be read were left out";
  const absl::Duration pause = absl::Now() - absl::FromUnixMillis(before->current);
  if (pause > kLongestPause || pause < -kLongestPause) return "tombstones may be gone after so long a pause";
  return "";
}

absl::Status TopicFollower::Session::Start() {
  ASSIGN_OR_RETURN(reader_, TopicReader::Open(options().reader, options().fetchWait));
  ASSIGN_OR_RETURN(const TopicReader::Description topic, reader_->Describe(kBrokerTimeout));
  if (topic.partitions < 1 || static_cast<size_t>(topic.partitions) > TopicPosition::kMostPartitions) {
    return absl::FailedPreconditionError(StrCat("topic ", options().reader.topic, " has ", topic.partitions,
                                                " partitions; 1 to ", TopicPosition::kMostPartitions,
                                                " can be followed"));
  }
  const auto partitions = static_cast<size_t>(topic.partitions);
  std::optional<TopicPosition> before = Decode(led_.source.state);
  isUnverified_.assign(partitions, false);
  look_.ends.assign(partitions, 0);
  formerLook_ = look_;
  answered_ = SteadyClock::now();
  if (const std::string why = WhyAnew(topic, before); !why.empty()) {
    position_ = {options().reader.topic,
                 std::string(formats::NameOf(options().as)),
                 topic.cluster,
                 0,
                 std::vector<TopicPosition::Partition>(partitions),
                 {}};
    RETURN_IF_ERROR(BeginAnew(why));
  } else {
    generation_ = led_.source.generation;
    wasCurrent_ = led_.source.age.has_value();
    position_ = *std::move(before);
  }
  for (size_t i = 0; i < partitions; ++i) {
    TopicPosition::Partition& one = position_.partitions[i];
    isUnverified_[i] = one.last >= 0;
    // Without a record to know it by, it may be another one. It has nothing that would be read twice.
    if (one.last < 0) one.next = 0;
    RETURN_IF_ERROR(reader_->Begin(static_cast<int32_t>(i), one.last >= 0 ? one.last : TopicReader::kBeginning));
  }
  return absl::OkStatus();
}

// From here on, nothing that was read before counts.
absl::Status TopicFollower::Session::BeginAnew(std::string_view reason) {
  generation_ = led_.source.generation + 1;
  led_.source.generation = generation_;
  wasCurrent_ = false;
  position_.current = absl::ToUnixMillis(absl::Now());
  position_.unreadable = {};
  position_.hasLeftOut = false;
  for (TopicPosition::Partition& one : position_.partitions) one = {};
  records_.clear();
  log::Warning("consents.readAnew",
               {{"topic", options().reader.topic}, {"keyspace", options().keyspace}, {"reason", reason}});
  return Move(std::nullopt);
}

absl::Status TopicFollower::Session::Run() {
  RETURN_IF_ERROR(Start());
  hasStarted_ = true;
  while (!isLost_ && !follower_.isEnding()) {
    const bool isFull = records_.size() >= keys::kMostConsentRecords;
    const auto now = SteadyClock::now();
    if (isFull || (!records_.empty() && now - gatheredSince_ >= kGather)) {
      RETURN_IF_ERROR(Move(std::nullopt));
    } else if (now >= nextLook_) {
      RETURN_IF_ERROR(Look());
      nextLook_ = SteadyClock::now() + options().heartbeat;
    } else if (const absl::Status taken = TakeNext(); !taken.ok()) {
      return absl::IsCancelled(taken) ? absl::OkStatus() : taken;
    }
  }
  return absl::OkStatus();
}

absl::Status TopicFollower::Session::TakeNext() {
  const absl::StatusOr<TopicReader::Event> event = reader_->Next(records_.empty() ? kGather : kGatherIdle);
  if (absl::IsOutOfRange(event.status())) {
    RETURN_IF_ERROR(BeginAnew(ToStd(event.status().message())));
    return absl::CancelledError("it begins anew");
  }
  RETURN_IF_ERROR(event.status());
  const bool isIdle = event->kind == TopicReader::Event::Kind::kNothing;
  if (isIdle && !records_.empty()) return Move(std::nullopt);
  return Take(*event);
}

absl::Status TopicFollower::Session::Take(const TopicReader::Event& event) {
  using Kind = TopicReader::Event::Kind;
  if (event.kind == Kind::kNothing) return absl::OkStatus();
  const auto place = static_cast<size_t>(event.partition);
  if (event.partition < 0 || place >= position_.partitions.size()) return absl::OkStatus();
  TopicPosition::Partition& partition = position_.partitions[place];
  if (isUnverified_[place]) {
    const bool isSame = event.kind == Kind::kRecord && event.offset == partition.last && event.time == partition.time;
    if (!isSame) {
      RETURN_IF_ERROR(BeginAnew(StrCat("the record of partition ", event.partition,
                                       " that was read last is not in it any more; it may be another topic")));
      return absl::CancelledError("it begins anew");
    }
    isUnverified_[place] = false;
    return absl::OkStatus();
  }
  if (event.kind == Kind::kRecord) {
    TakeRecord(event);
    partition = {event.offset + 1, event.offset, event.time};
    return absl::OkStatus();
  }
  partition.next = std::max(partition.next, event.offset);
  // The end of the first reading is not waited for.
  if (!isCurrent_ && goal_.has_value() && HasRead(goal_->ends)) nextLook_ = SteadyClock::now();
  return absl::OkStatus();
}

void TopicFollower::Session::TakeRecord(const TopicReader::Event& event) {
  std::string scratch;
  std::string_view user;
  const formats::IdProblem problem = formats::IdOfBytes(options().as, event.key, scratch, user);
  if (problem != formats::IdProblem::kNone)
    return NoteUnreadable(event, StrCat("its key: ", formats::Explain(problem)));
  if (records_.empty()) gatheredSince_ = SteadyClock::now();
  keys::ConsentRecord& record = records_.emplace_back();
  record.user = user;
  record.partition = event.partition;
  if (event.time > 0) record.time = absl::FromUnixMillis(event.time);
  record.notBefore = NotBefore(event);
  const absl::Duration ahead = record.time - absl::Now();
  if (ahead > kWorthTelling) NoteAhead(event);
  if (!event.value.has_value()) return;
  if (ahead > keys::kFurthestAhead) return NoteUnreadable(event, "its time is more than a day ahead");
  absl::StatusOr<std::vector<users::Consent>> consents = users::ParseConsentRecord(AsText(*event.value));
  if (!consents.ok()) return NoteUnreadable(event, ToStd(consents.status().message()));
  record.consents = *std::move(consents);
}

void TopicFollower::Session::NoteUnreadable(const TopicReader::Event& event, std::string_view reason) {
  position_.unreadable = {position_.unreadable.count + 1, event.partition, event.offset, std::string(reason)};
  log::Warning("consents.unreadable", {{"topic", options().reader.topic},
                                       {"partition", event.partition},
                                       {"offset", event.offset},
                                       {"reason", reason}});
}

// A record that a look at the ends has not found was written after it. The last look may have been answered together
// with the record, as it waits for a fetch; then the one before tells. Another topic's record that was copied here with
// its time is taken for one that was written then.
absl::Time TopicFollower::Session::NotBefore(const TopicReader::Event& event) const {
  for (const Goal* const look : {&look_, &formerLook_}) {
    if (event.offset >= look->ends[static_cast<size_t>(event.partition)]) return look->askedAt;
  }
  return absl::InfinitePast();
}

void TopicFollower::Session::NoteAhead(const TopicReader::Event& event) {
  if (ahead_++ > 0) return;  // the status has how many
  log::Warning("consents.ahead", {{"topic", options().reader.topic},
                                  {"partition", event.partition},
                                  {"offset", event.offset},
                                  {"time", TextOf(event.time)}});
}

absl::Status TopicFollower::Session::Move(std::optional<milliseconds> age) {
  ASSIGN_OR_RETURN(keys::FollowedRecords followed, TryMove(age));
  if (!followed.isDone && followed.damaged > 0) {
    // The state tells whoever follows next, who may be of a later version that can read it.
    position_.hasLeftOut = true;
    log::Warning("consents.damaged", {{"topic", options().reader.topic}, {"records", followed.damaged}});
    ASSIGN_OR_RETURN(followed, TryMove(age));
  }
  records_.clear();
  isLost_ = !followed.isDone;
  if (followed.scattered > 0) {
    log::Warning("consents.scattered", {{"topic", options().reader.topic}, {"records", followed.scattered}});
  }
  if (followed.held > 0) {
    held_ += followed.held;
    log::Warning("consents.held", {{"topic", options().reader.topic}, {"consents", followed.held}});
  }
  return absl::OkStatus();
}

absl::StatusOr<keys::FollowedRecords> TopicFollower::Session::TryMove(std::optional<milliseconds> age) {
  const std::string state = Encode(position_);
  const keys::Registry::SourceMove move{options().keyspace,   led_.source.term, generation_, state, age,
                                        options().staleAfter, led_.source.state};
  absl::StatusOr<keys::FollowedRecords> followed =
      follower_.keys_.FollowSource(move, led_.opening, records_, position_.hasLeftOut);
  hasRegistryFailed_ = !followed.ok();
  if (followed.ok() && followed->isDone) led_.source.state = state;
  return followed;
}

bool TopicFollower::Session::HasRead(const std::vector<int64_t>& ends) const {
  for (size_t i = 0; i < position_.partitions.size(); ++i) {
    if (isUnverified_[i] || position_.partitions[i].next < ends[i]) return false;
  }
  return true;
}

// Is heard of, and finds out whether all that was in the topic is here.
absl::Status TopicFollower::Session::Look() {
  if (++looks_ % kLooksAtPartitions == 0) RETURN_IF_ERROR(CheckPartitions());
  if (isLost_) return absl::OkStatus();
  Goal now{{}, SteadyClock::now(), absl::Now()};
  absl::StatusOr<std::vector<int64_t>> ends = reader_->ReadEnds(kBrokerTimeout);
  unanswered_ = ends.status();
  std::optional<Goal> reached;
  if (ends.ok()) {
    now.ends = *std::move(ends);
    answered_ = now.asked;
    formerLook_ = std::exchange(look_, now);
    reached = TakeGoal(std::move(now));
  } else if (now.asked - answered_ > kPatience) {
    return unanswered_;
  }
  isCurrent_ = reached.has_value();
  if (absl::Now() - absl::FromUnixMillis(position_.current) > kLongestPause) {
    RETURN_IF_ERROR(BeginAnew("tombstones may be gone after so long a time without reaching its end"));
    isLost_ = true;  // a new session reads it
    return absl::OkStatus();
  }
  std::optional<milliseconds> age;
  if (isCurrent_) {
    position_.current = absl::ToUnixMillis(reached->askedAt);
    wasCurrent_ = true;
    age = std::chrono::duration_cast<milliseconds>(SteadyClock::now() - reached->asked) + milliseconds(1);
  }
  RETURN_IF_ERROR(Move(age));
  Tell();
  return absl::OkStatus();
}

std::optional<TopicFollower::Session::Goal> TopicFollower::Session::TakeGoal(Goal now) {
  if (HasRead(now.ends)) {
    goal_.reset();
    return now;
  }
  std::optional<Goal> reached;
  if (goal_.has_value() && HasRead(goal_->ends)) reached = std::exchange(goal_, std::nullopt);
  if (!goal_.has_value()) goal_ = std::move(now);
  return reached;
}

// Kafka's clients send a user's records to other partitions when there are more. An address may lead to another
// cluster.
absl::Status TopicFollower::Session::CheckPartitions() {
  const absl::StatusOr<TopicReader::Description> topic = reader_->Describe(kBrokerTimeout);
  if (absl::IsFailedPrecondition(topic.status())) return topic.status();
  if (!topic.ok()) return absl::OkStatus();  // what follows asks the brokers, too
  const bool isSame =
      topic->partitions == static_cast<int32_t>(position_.partitions.size()) && topic->cluster == position_.cluster;
  isLost_ = !isSame;  // a new session finds out
  return absl::OkStatus();
}

bool TopicFollower::Session::IsStale() const {
  const absl::Duration behind = absl::Now() - absl::FromUnixMillis(position_.current);
  return !wasCurrent_ || behind >= absl::FromChrono(options().staleAfter);
}

absl::Status TopicFollower::Session::Problem() const {
  if (!IsStale()) return unanswered_;
  return follower_.NothingCounts(wasCurrent_, unanswered_);
}

void TopicFollower::Session::Tell() {
  int64_t last = 0, behind = 0;
  std::string text;
  for (size_t i = 0; i < position_.partitions.size(); ++i) {
    const TopicPosition::Partition& one = position_.partitions[i];
    const int64_t lag = std::max<int64_t>(0, look_.ends[i] - one.next);
    last = std::max(last, one.time);
    behind += lag;
    if (i < kMostPartitionsTold) StrAppend(&text, i == 0 ? "" : ", ", i, ": ", lag);
    if (i == kMostPartitionsTold) text += ", ...";
  }
  Status status{Problem(), "", /*isFollowed=*/true, behind, std::nullopt, position_.unreadable.count};
  if (wasCurrent_) status.readAt = absl::FromUnixMillis(position_.current);
  status.note =
      StrCat("this agent follows topic ", options().reader.topic, "; ",
             isCurrent_ ? "all of it is read" : "not all of it is read yet", "; offsets behind, by partition: ", text,
             "; last record: ", last == 0 ? "none" : TextOf(last), Describe(position_.unreadable));
  if (ahead_ > 0) {
    StrAppend(&status.note, "; ", ahead_,
              " record(s) had times that had yet to come: the clock of a producer is ahead");
  }
  if (held_ > 0) {
    StrAppend(
        &status.note, "; ", held_,
        " consent(s) were not granted: commands have withdrawn them, and a clock that is ahead hides what was last");
  }
  follower_.Tell(std::move(status));
}

}  // namespace kveil::consents
