#include "audit_topic/trail_sender.h"

#include <algorithm>
#include <condition_variable>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "audit/trail_cursor.h"
#include "audit/trail_reader.h"
#include "audit_topic/sent_position.h"
#include "audit_topic/topic_producer.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit_topic {
namespace {

using audit::TrailCursor;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr milliseconds kBrokerTimeout{2000};
// Bytes of lines that are sent, and acknowledged, together.
constexpr size_t kPiece = size_t{256} << 10;
// For how long it is said that lines were removed before they were sent.
constexpr absl::Duration kTellMissed = absl::Hours(24);
// What a thread may take that was told to end, before it is left behind.
constexpr std::chrono::seconds kPatience{1};

// These are no lines of the trail. They are not signed, but the head that the second one holds is.
std::string RecordOfMissing(const TrailCursor::Piece::Missing& missing, absl::Time now) {
  return Json{{"kind", "notSent"}, {"first", missing.first}, {"last", missing.last}, {"time", audit::TextOf(now)}}
      .dump();
}
std::string RecordOfHead(const std::string& head) {
  return Json{{"kind", "head"}, {"head", head}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

struct TrailSender::Shared {
  TrailSenderOptions options;
  mutable Mutex mutex;
  std::condition_variable_any changed;
  bool isEnding ABSL_GUARDED_BY(mutex) = false;
  bool isLeft ABSL_GUARDED_BY(mutex) = false;  // nobody waits for the thread: what the options refer to may be gone
  bool hasEnded ABSL_GUARDED_BY(mutex) = false;
  Clock::time_point until ABSL_GUARDED_BY(mutex);  // when it ends: when it is to have ended
  Status status ABSL_GUARDED_BY(mutex);
};

// The thread's.
class TrailSender::Sending {
 public:
  explicit Sending(Shared& shared) : shared_(shared), origin_{.key = "", .agent = shared.options.agent} {}

  // Sends all that is signed. An error: it is to be tried again.
  absl::Status SendAll();
  void Tell(const absl::Status& outcome);
  bool isEnding() const {
    const MutexLock lock(shared_.mutex);
    return shared_.isEnding;
  }
  // False: it is to end.
  bool Sleep(milliseconds time);

 private:
  const TrailSenderOptions& options() const { return shared_.options; }
  absl::Status Begin();
  void BeginTopic();
  bool IsMadeAnew(const TopicProducer::Spot& next) const;
  absl::Status Send(const TrailCursor::Piece& piece);
  absl::Status Keep();  // the position
  bool GoesOn() const {
    const MutexLock lock(shared_.mutex);
    return !shared_.isEnding || Clock::now() < shared_.until;
  }

  Shared& shared_;
  TopicProducer::Origin origin_;
  std::unique_ptr<TopicProducer> producer_;
  std::optional<TrailCursor> cursor_;
  std::optional<SentPosition> position_;  // nullopt: not read yet
  bool isWritten_ = true;
  uint64_t sent_ = 0, missed_ = 0;
};

absl::Status TrailSender::Sending::Begin() {
  const std::string& folder = options().folder;
  const std::string& topic = options().client.topic;
  if (!position_.has_value()) {
    ASSIGN_OR_RETURN(const std::optional<SentPosition> position, ReadPosition(folder));
    position_ = position.value_or(SentPosition());
  }
  if (producer_ == nullptr) {
    ASSIGN_OR_RETURN(producer_, TopicProducer::Open(options().client, kBrokerTimeout));
  }
  if (cursor_.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(origin_.key, TrailId(folder));
  ASSIGN_OR_RETURN(evidence::SigningKey key, audit::ReadPublicKey(folder, ""));
  if (position_->topic != topic || position_->cluster != producer_->cluster()) {
    BeginTopic();
  }
  cursor_.emplace(folder, std::move(key), position_->line);
  return absl::OkStatus();
}

// From its first line.
void TrailSender::Sending::BeginTopic() {
  const std::string& topic = options().client.topic;
  position_ = SentPosition{.cluster = producer_->cluster(), .topic = topic, .line = {}, .missed = {}, .spot = {}};
  log::Info("audit.topicBegun", {{"topic", topic}, {"trail", origin_.key}});
}

// All records of a trail have one key, and so one partition, in which offsets grow. If not, the topic was made anew, or
// has got partitions: what it has is not known, and a line twice is better than none.
bool TrailSender::Sending::IsMadeAnew(const TopicProducer::Spot& next) const {
  const std::optional<TopicProducer::Spot>& last = position_->spot;
  return last.has_value() && (next.partition != last->partition || next.offset <= last->offset);
}

absl::Status TrailSender::Sending::SendAll() {
  RETURN_IF_ERROR(Begin());
  if (!isWritten_) RETURN_IF_ERROR(Keep());
  while (GoesOn()) {
    const absl::StatusOr<TrailCursor::Piece> piece = cursor_->Next(kPiece);
    if (!piece.ok()) {
      cursor_.reset();  // it may have read some
      return piece.status();
    }
    if (piece->isEmpty()) return absl::OkStatus();
    RETURN_IF_ERROR(Send(*piece));
    RETURN_IF_ERROR(Keep());
    if (!cursor_.has_value()) RETURN_IF_ERROR(Begin());  // from the first line again
    if (cursor_->behind() > 0) Tell(absl::OkStatus());
  }
  return absl::OkStatus();
}

absl::Status TrailSender::Sending::Send(const TrailCursor::Piece& piece) {
  std::vector<std::string> values;
  const absl::Time now = absl::Now();
  if (piece.missing.has_value()) values.push_back(RecordOfMissing(*piece.missing, now));
  values.insert(values.end(), piece.lines.begin(), piece.lines.end());
  if (piece.head.has_value()) values.push_back(RecordOfHead(*piece.head));
  const absl::StatusOr<std::optional<TopicProducer::Sent>> sent =
      producer_->Send(origin_, values, [this] { return GoesOn(); });
  if (!sent.ok()) {
    // What was given may not be in the topic: it is read anew from the position.
    cursor_.reset();
    producer_.reset();
    return sent.status();
  }
  const std::optional<TopicProducer::Sent>& at = *sent;
  if (at.has_value() && IsMadeAnew(at->first)) {
    log::Warning("audit.topicMadeAnew", {{"topic", options().client.topic}, {"offset", at->first.offset}});
    BeginTopic();
    position_->spot = at->last;
    cursor_.reset();
    isWritten_ = false;
    return absl::OkStatus();
  }
  if (piece.missing.has_value()) {
    const auto& [first, last] = *piece.missing;
    position_->missed = {first, last, audit::TextOf(now)};
    missed_ += last - first + 1;
    log::Warning("audit.notSent", {{"topic", options().client.topic}, {"first", first}, {"last", last}});
  }
  isWritten_ = false;
  position_->line = piece.end;
  if (at.has_value()) position_->spot = at->last;
  sent_ += piece.lines.size();
  return absl::OkStatus();
}

// What cannot be kept now is sent again only by the next agent.
absl::Status TrailSender::Sending::Keep() {
  if (isWritten_) return absl::OkStatus();
  RETURN_IF_ERROR(WritePosition(options().folder, *position_));
  isWritten_ = true;
  return absl::OkStatus();
}

void TrailSender::Sending::Tell(const absl::Status& outcome) {
  Status status;
  status.sent = sent_;
  status.missed = missed_;
  const SentPosition position = position_.value_or(SentPosition());
  const absl::StatusOr<audit::TrailHead> head = audit::ReadHead(options().folder, nullptr);
  if (head.ok()) status.behind = head->last - std::min(head->last, position.line.seq);
  const std::optional<SentPosition::Missed>& missed = position.missed;
  if (!outcome.ok()) {
    status.problem = absl::Status(
        outcome.code(), StrCat("the audit trail cannot be sent: ", ToStd(outcome.message()), "; it waits in ",
                               options().folder, ", until audit.keep or audit.maxSize has its oldest lines removed"));
  } else if (missed.has_value() &&
             absl::Now() - audit::TimeIn(missed->time).value_or(absl::InfinitePast()) < kTellMissed) {
    status.problem = absl::DataLossError(StrCat("lines ", missed->first, " to ", missed->last,
                                                " of the audit trail were removed before they could be sent to topic ",
                                                options().client.topic));
  }
  status.note = StrCat("the audit trail is in topic ", options().client.topic, " up to line ", position.line.seq, "; ",
                       status.behind, " lines wait to be sent");
  const MutexLock lock(shared_.mutex);
  shared_.status = std::move(status);
}

bool TrailSender::Sending::Sleep(milliseconds time) {
  const auto until = Clock::now() + time;
  const MutexLock lock(shared_.mutex);
  while (!shared_.isEnding && Clock::now() < until) shared_.changed.wait_until(shared_.mutex, until);
  return !shared_.isEnding;
}

TrailSender::TrailSender(TrailSenderOptions options) : shared_(std::make_shared<Shared>()) {
  // The socket may be made after this object is gone (Stop).
  options.client.tagAsOwn = [tag = std::move(options.client.tagAsOwn),
                             shared = std::weak_ptr<Shared>(shared_)](int fd) {
    const std::shared_ptr<Shared> alive = shared.lock();
    if (alive == nullptr) return false;
    const MutexLock lock(alive->mutex);
    return !alive->isLeft && tag(fd);
  };
  shared_->options = std::move(options);
  thread_ = std::thread(Run, shared_);
}

void TrailSender::Run(std::shared_ptr<Shared> shared) {
  {
    Sending sending(*shared);
    absl::Status outcome;
    for (bool isLast = false; !isLast;) {
      isLast = sending.isEnding();  // then what was written before that is sent now
      if (isLast && !outcome.ok()) break;
      outcome = sending.SendAll();
      if (absl::IsNotFound(outcome)) outcome = absl::OkStatus();  // there is no trail yet
      sending.Tell(outcome);
      sending.Sleep(outcome.ok() ? shared->options.look : shared->options.pause);
    }
  }
  const MutexLock lock(shared->mutex);
  shared->hasEnded = true;
  shared->changed.notify_all();
}

void TrailSender::Stop(milliseconds limit) {
  if (!thread_.joinable()) return;
  bool hasEnded = false;
  uint64_t behind = 0;
  {
    const MutexLock lock(shared_->mutex);
    shared_->until = Clock::now() + limit;
    shared_->isEnding = true;
    shared_->changed.notify_all();
    while (!shared_->hasEnded && Clock::now() < shared_->until + kPatience) {
      shared_->changed.wait_until(shared_->mutex, shared_->until + kPatience);
    }
    hasEnded = shared_->hasEnded;
    shared_->isLeft = !hasEnded;
    behind = shared_->status.behind;
  }
  if (behind > 0 || !hasEnded) log::Warning("audit.topicBehind", {{"lines", behind}});
  if (hasEnded) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

TrailSender::Status TrailSender::status() const {
  const MutexLock lock(shared_->mutex);
  return shared_->status;
}

absl::StatusOr<std::string> TrailId(const std::string& folder) {
  ASSIGN_OR_RETURN(const std::string pem, evidence::ReadFile(folder + "/public.pem"));
  return evidence::Sha256Hex(pem);
}

}  // namespace kveil::audit_topic
