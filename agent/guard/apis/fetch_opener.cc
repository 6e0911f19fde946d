#include "guard/apis/fetch_opener.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "absl/hash/hash.h"
#include "guard/apis/decoded.h"
#include "guard/state/count_refused.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::FetchResponse;

// Partitions of a connection that are remembered for having had no records.
constexpr size_t kMostStarved = 256;
// Partitions of a response that are looked at between two looks at the clock.
constexpr size_t kAtOnce = 1024;

void Deny(FetchResponse::Partition& partition, ErrorCode code) {
  partition.errorCode = code;
  partition.records = Bytes();
  partition.abortedTransactions.reset();
}

}  // namespace

// A topic of a response that has a policy.
struct FetchOpener::Topic {
  size_t hash = 0;  // of how the message names it
  std::string name;
  const policy::TopicPolicy* policy = nullptr;
  std::optional<policy::EntrySet> readers;
  std::optional<size_t> entry;
};

// One of its partitions, with records.
struct FetchOpener::Readable {
  const Topic* topic = nullptr;
  FetchResponse::Partition* partition = nullptr;
  std::optional<FetchPositions::Asked> asked;  // where it is known

  size_t hash() const { return absl::HashOf(topic->hash, partition->partitionIndex); }
};

// What has been done to a response so far.
struct FetchOpener::Progress {
  Progress(proxy::MemoryBudget& budget, const Terms& terms) : terms(terms), budget(budget) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { budget.ReleaseOwed(counted); }

  Topic& Add(const TopicKey& key, const ReadAccess& access) {
    Count(sizeof(Topic) + access.name->size());
    Topic& topic = topics.emplace_back();
    topic.hash = absl::HashOf(key);
    topic.name = *access.name;
    topic.policy = access.policy;
    topic.readers = access.readers;
    topic.entry = access.entry;
    return topic;
  }
  // A response of a few bytes a partition comes to more than itself.
  void Count(size_t more) {
    budget.AcquireOwedAnyway(more);
    counted += more;
  }

  const Terms& terms;
  bool changed = false;
  bool stopped = false;  // some partition has none although the broker sent some
  RecordsOpener::Response response;
  std::deque<Topic> topics;  // a deque, as partitions point at them
  std::deque<Readable> readable;
  size_t bytes = 0;               // of their records
  std::optional<size_t> overdue;  // the one of them that has waited for longest
  uint64_t overdueSince = std::numeric_limits<uint64_t>::max();
  proxy::MemoryBudget& budget;
  size_t counted = 0;  // towards it
};

FetchOpener::FetchOpener(const GuardContext& context)
    : shared_(context.shared),
      scratch_(context.scratch),
      loop_(context.loop),
      connection_(context.connection),
      client_(context.client),
      opener_(context.shared, context.scratch, context.loop, context.connection),
      denials_(context.connection) {}

io::Task<absl::StatusOr<FetchOpener::Outcome>> FetchOpener::Open(FetchResponse& response, size_t frameSize,
                                                                 const Terms& terms, const FetchSession& session,
                                                                 proxy::Arena& arena) {
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Progress progress(arena.budget(), terms);
  progress.response.keyDeadline = std::chrono::steady_clock::now() + shared_.limits.keyTimeout;
  progress.response.zstdAllowed = terms.zstdAllowed;
  io::Turn turn(loop_);
  for (FetchResponse::Topic& topic : response.responses) {
    if (absl::Status checked = CheckTopicName("Fetch of", topic.topic); !checked.ok()) co_return checked;
    co_await scratch_.searchPace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
    auto checking = CheckTopic(topic, session, *policies, turn, progress);
    co_await std::move(checking);
  }
  auto opening = OpenReadable(frameSize, arena, progress);
  co_await std::move(opening);
  Outcome outcome;
  outcome.changed = progress.changed;
  outcome.isHeldBack = progress.stopped && !progress.response.delivered;
  co_return outcome;
}

// Denies what may not be read, and notes what is to be opened.
io::Task<void> FetchOpener::CheckTopic(FetchResponse::Topic& topic, const FetchSession& session,
                                       const policy::Policy& policies, io::Turn& turn, Progress& progress) {
  const ReadAccess access = AccessTo(topic, policies, progress.terms);
  const bool isOpened = access.policy != nullptr && access.error == ErrorCode::kNone;
  const TopicKey key = FetchPositions::KeyOf(topic.topic, topic.topicId);
  const FetchPositions::Partitions* asked = nullptr;
  Topic* readable = nullptr;
  for (size_t i = 0; i < topic.partitions.size(); ++i) {
    if (i % kAtOnce == 0) {
      co_await turn.Pause();
      asked = isOpened ? session.Find(key) : nullptr;  // a request may have come meanwhile
    }
    FetchResponse::Partition& partition = topic.partitions[i];
    if (!isOpened) {
      CheckPartition(access, partition, progress);
    } else if (HasRecords(partition)) {
      if (readable == nullptr) readable = &progress.Add(key, access);
      Add(*readable, partition, asked, progress);
    }
  }
}

ReadAccess FetchOpener::AccessTo(const FetchResponse::Topic& topic, const policy::Policy& policies,
                                 const Terms& terms) {
  std::optional<std::string> name = std::string(topic.topic);
  if (!topic.topicId.IsZero()) name = shared_.topicNames.Find(topic.topicId, connection_);
  ReadAccess access = ReadAccessTo(std::move(name), policies, connection_.workload, *terms.claims);
  scratch_.searchPace.Charge(connection_.workload.share, access.searched);
  if (access.policy != nullptr && !terms.recordsHaveHeaders) access.error = ErrorCode::kTopicAuthorizationFailed;
  if (access.isDenied() && !topic.partitions.empty()) {
    TellAuditOfDenial(scratch_, AuditedOf(access, connection_));
    denials_.Report(*access.name,
                    terms.recordsHaveHeaders ? "policy" : "a Fetch version that gives records without headers");
  }
  return access;
}

// A partition of which nothing is opened: it is not protected, or may not be read.
void FetchOpener::CheckPartition(const ReadAccess& access, FetchResponse::Partition& partition,
                                 Progress& progress) const {
  const bool hasRecords = HasRecords(partition);
  if (access.error == ErrorCode::kNone) {
    progress.response.delivered = progress.response.delivered || hasRecords;
    return;
  }
  if (!access.isDenied() && !hasRecords) return;
  if (access.isDenied()) {
    if (hasRecords) CountRefused(shared_.metrics, connection_, observe::RefuseReason::kDenied, 1);
    progress.response.delivered = true;  // an error is an answer: nothing to hold back
  }
  Deny(partition, access.error);
  progress.changed = true;
}

// Notes a partition that is to be opened, and whether it is the one that has waited for longest.
void FetchOpener::Add(const Topic& topic, FetchResponse::Partition& partition, const FetchPositions::Partitions* asked,
                      Progress& progress) const {
  progress.Count(sizeof(Readable));
  Readable& readable = progress.readable.emplace_back();
  readable.topic = &topic;
  readable.partition = &partition;
  progress.bytes += partition.records->size();
  if (asked != nullptr) {
    const auto found = asked->find(partition.partitionIndex);
    if (found != asked->end()) readable.asked = found->second;
  }
  if (starved_.empty()) return;
  const auto starved = starved_.find(readable.hash());
  if (starved == starved_.end() || starved->second >= progress.overdueSince) return;
  progress.overdue = progress.readable.size() - 1;
  progress.overdueSince = starved->second;
}

void FetchOpener::NoteStarved(const Readable& readable, bool isStarved) {
  if (!isStarved) {
    if (!starved_.empty()) starved_.erase(readable.hash());
    return;
  }
  // Some may be of partitions that nobody reads any more. Those that still wait come again.
  if (starved_.size() >= kMostStarved) starved_.clear();
  starved_.try_emplace(readable.hash(), ++starvedCount_);
}

// Opens all of them, within what the reader is ready for.
io::Task<void> FetchOpener::OpenReadable(size_t frameSize, proxy::Arena& arena, Progress& progress) {
  if (progress.readable.empty()) co_return;
  auto reserving = ReserveForOpening(arena, progress.bytes, progress.terms.maxBytes);
  (void)co_await std::move(reserving);
  progress.response.room = progress.terms.maxBytes - static_cast<int64_t>(frameSize);
  progress.response.workLimit = shared_.limits.workOfResponse;
  const size_t count = progress.readable.size();
  opener_.Begin();
  for (size_t i = 0; i < count; ++i) {
    const size_t at = (progress.overdue.value_or(0) + i) % count;
    auto opening = OpenPartition(progress.readable[at], at == progress.overdue, arena, progress);
    co_await std::move(opening);
  }
  arena.ReturnRest();
}

// In place of a record that rules deny.
void FetchOpener::AnswerWithError(const Readable& readable, Progress& progress) {
  const Topic& topic = *readable.topic;
  TellAuditOfDenial(scratch_, {.workload = connection_.workload,
                               .cluster = connection_.cluster,
                               .topic = topic.name,
                               .policy = topic.policy,
                               .access = audit::Access::kRead,
                               .entry = std::nullopt});
  denials_.Report(topic.name, "a record that no entry lets the workload read (onDenied: error)");
  Deny(*readable.partition, ErrorCode::kTopicAuthorizationFailed);
  progress.changed = true;
  progress.response.delivered = true;  // an error is an answer: nothing to hold back
}

io::Task<void> FetchOpener::OpenPartition(const Readable& readable, bool isOverdue, proxy::Arena& arena,
                                          Progress& progress) {
  FetchResponse::Partition& partition = *readable.partition;
  // Of a batch that is cut before a record that the reader has seen, it would get the same for ever.
  const bool mayEndAtRecord =
      readable.topic->readers.has_value() && readable.topic->policy->onDenied == policy::OnHidden::kError;
  if (mayEndAtRecord && !readable.asked.has_value()) {
    CountRefused(shared_.metrics, connection_, observe::RefuseReason::kDenied, 1);
    AnswerWithError(readable, progress);
    co_return;
  }
  RecordsOpener::Partition task;
  task.records = *partition.records;
  task.index = partition.partitionIndex;
  task.topicName = readable.topic->name;
  task.topic = readable.topic->policy;
  task.masking = client_->MaskingOf(*task.topic);
  task.isOverdue = isOverdue;
  task.entry = readable.topic->entry;
  if (readable.topic->readers.has_value()) task.readers = &*readable.topic->readers;
  // Where it is not known what was asked for, the records stay as large as they are.
  task.room = 0;
  if (readable.asked.has_value()) {
    task.fetchOffset = readable.asked->offset;
    task.room = readable.asked->maxBytes - static_cast<int64_t>(task.records.size());
  }
  auto opening = opener_.Open(task, progress.response, arena);
  RecordsOpener::Result result = co_await std::move(opening);
  const bool isStarved = result.endedEarly && result.records.empty();
  NoteStarved(readable, isStarved);
  if (result.changed) {
    progress.changed = true;
    partition.records = result.records;
  }
  if (isStarved) co_return;  // the reader comes again for it
  if (!result.records.empty() || !result.stop.has_value()) {
    // Of a partial batch alone, its size: its reader asks again with a larger limit.
    progress.response.delivered = true;
    co_return;
  }
  if (*result.stop == observe::RefuseReason::kDenied) {
    AnswerWithError(readable, progress);
    co_return;
  }
  progress.stopped = true;
  // Unreachable keys come back: no error, and the reader asks again. For the rest every client retries this code
  // quietly.
  if (*result.stop != observe::RefuseReason::kKeysUnavailable) partition.errorCode = ErrorCode::kNotLeaderOrFollower;
}

}  // namespace kveil::guard
