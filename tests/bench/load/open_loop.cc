#include "load/open_loop.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/text.h"
#include "batches.h"
#include "load/client.h"
#include "load/crowd.h"
#include "load/requests.h"

namespace kveil::load {
namespace {

using Clock = Crowd::Clock;

constexpr size_t kInFlight = 5;  // max.in.flight.requests.per.connection
constexpr size_t kMostBytes = 128 << 10;
constexpr auto kPatience = std::chrono::seconds(30);

class OpenLoop {
 public:
  OpenLoop(const OpenLoopOptions& options, Topic topic, std::vector<std::string> values)
      : options_(options),
        topic_(std::move(topic)),
        values_(std::move(values)),
        perConnection_(static_cast<uint64_t>(options.rate * (options.warmUp + options.seconds)) / options.connections),
        firstCounted_(static_cast<uint64_t>(options.rate * options.warmUp)),
        mostRecords_(std::max<size_t>(kMostBytes / options.size, 1)),
        producers_(options.connections),
        read_(options.fetch ? options.connections : 0),
        crowd_([this](size_t connection, Bytes answer) { OnAnswer(connection, answer); }) {}

  absl::StatusOr<OpenLoopResult> Run() {
    std::vector<SocketAddress> brokers = topic_.leaders;
    if (options_.fetch) brokers.insert(brokers.end(), topic_.leaders.begin(), topic_.leaders.end());
    crowd_.Open(brokers);
    if (crowd_.failed() > 0) return absl::UnavailableError(crowd_.firstProblem());
    start_ = Clock::now();
    for (size_t i = 0; i < read_.size(); ++i) Fetch(i);
    const Clock::time_point limit = Due(0, perConnection_) + kPatience;
    while (!IsDone() && crowd_.failed() == 0 && Clock::now() < limit) {
      const Clock::time_point now = Clock::now();
      for (size_t i = 0; i < producers_.size(); ++i) SendDue(i, now);
      crowd_.Turn(std::min(NextDue(now), limit));
    }
    CountMissing();
    return std::move(result_);
  }

 private:
  // A batch that is not acknowledged: records of its connection, counted from 0.
  struct Batch {
    uint64_t first;
    uint64_t count;
  };
  struct Producer {
    uint64_t sent = 0;
    uint64_t answered = 0;
    std::deque<Batch> inFlight;
  };

  // Connections take turns, so that what is due is spread over all of them.
  uint64_t Number(size_t connection, uint64_t record) const { return record * producers_.size() + connection; }
  Clock::time_point Due(size_t connection, uint64_t record) const { return DueOf(Number(connection, record)); }
  Clock::time_point DueOf(uint64_t number) const {
    const std::chrono::duration<double> after(static_cast<double>(number) / options_.rate);
    return start_ + std::chrono::duration_cast<Clock::duration>(after);
  }
  // The first record of any connection that is due later.
  Clock::time_point NextDue(Clock::time_point now) const {
    const std::chrono::duration<double> passed = now - start_;
    return DueOf(static_cast<uint64_t>(passed.count() * options_.rate) + 1);
  }

  void SendDue(size_t connection, Clock::time_point now) {
    Producer& producer = producers_[connection];
    while (producer.inFlight.size() < kInFlight) {
      uint64_t end = producer.sent;
      while (end < perConnection_ && end - producer.sent < mostRecords_ && Due(connection, end) <= now) ++end;
      if (end == producer.sent) return;
      const Batch batch{producer.sent, end - producer.sent};
      producer.sent = end;
      producer.inFlight.push_back(batch);
      crowd_.Send(connection, Produce(connection, batch.first, batch.count));
    }
  }

  ByteBuffer Produce(size_t connection, uint64_t first, uint64_t count) const {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    kafka::BatchHeader header;
    header.baseTimestamp = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
    const ByteBuffer batch = kafka::MakeBatch(
        static_cast<int32_t>(count),
        [&](int32_t i) -> std::string_view {
          return values_[Number(connection, first + static_cast<uint64_t>(i)) % values_.size()];
        },
        header);
    return ProduceRequest(topic_.name, static_cast<int32_t>(connection), options_.acks, batch);
  }

  void Fetch(size_t reader) {
    const int64_t offset = topic_.ends[reader] + static_cast<int64_t>(read_[reader]);
    crowd_.Send(producers_.size() + reader, FetchRequest(topic_.name, static_cast<int32_t>(reader), offset));
  }

  void OnAnswer(size_t connection, Bytes answer) {
    const Clock::time_point now = Clock::now();
    if (connection < producers_.size()) {
      OnProduced(connection, answer, now);
      SendDue(connection, now);
      return;
    }
    const size_t reader = connection - producers_.size();
    if (const absl::Status status = OnFetched(reader, answer, now); !status.ok()) return Stop(status);
    if (read_[reader] < perConnection_) Fetch(reader);
  }

  void OnProduced(size_t connection, Bytes answer, Clock::time_point now) {
    Producer& producer = producers_[connection];
    const absl::StatusOr<int64_t> offset = ProducedOffset(answer);
    if (producer.inFlight.empty()) return Stop(absl::InternalError("an answer to nothing"));
    const Batch batch = producer.inFlight.front();
    producer.inFlight.pop_front();
    producer.answered += batch.count;
    if (!offset.ok()) return result_.errors.Add(batch.count, offset.status());
    Record(connection, batch, now, result_.produced);
  }

  absl::Status OnFetched(size_t reader, Bytes answer, Clock::time_point now) {
    ASSIGN_OR_RETURN(const auto response, ReadAnswer<kafka::FetchResponse>(answer, kFetchVersion));
    if (response.responses.size() != 1 || response.responses[0].partitions.size() != 1) return absl::OkStatus();
    const auto& partition = response.responses[0].partitions[0];
    if (partition.errorCode != kafka::ErrorCode::kNone) {
      return absl::InternalError(StrCat("Fetch: ", kafka::ErrorName(partition.errorCode)));
    }
    kafka::BatchReader batches(partition.records.value_or(Bytes()));
    for (kafka::BatchView batch; batches.Next(batch) == kafka::BatchReader::Result::kBatch;) {
      const int64_t end = batch.header.lastOffset() + 1 - topic_.ends[reader];
      uint64_t& read = read_[reader];
      if (end <= static_cast<int64_t>(read)) continue;
      Record(reader, {read, static_cast<uint64_t>(end) - read}, now, result_.fetched);
      read = static_cast<uint64_t>(end);
    }
    return absl::OkStatus();
  }

  void Record(size_t connection, const Batch& batch, Clock::time_point now, Histogram& histogram) const {
    for (uint64_t record = batch.first; record < batch.first + batch.count; ++record) {
      if (Number(connection, record) >= firstCounted_) histogram.Record(now - Due(connection, record));
    }
  }

  void Stop(const absl::Status& status) {
    result_.errors.Add(1, status);
    isStopped_ = true;
  }

  bool IsDone() const {
    return isStopped_ ||
           (std::all_of(producers_.begin(), producers_.end(),
                        [&](const Producer& producer) { return producer.answered >= perConnection_; }) &&
            std::all_of(read_.begin(), read_.end(), [&](uint64_t read) { return read >= perConnection_; }));
  }

  void CountMissing() {
    const std::string why = crowd_.failed() > 0 ? crowd_.firstProblem() : "no answer in time";
    for (const Producer& producer : producers_) result_.errors.Add(perConnection_ - producer.answered, why);
    for (const uint64_t read : read_) {
      result_.errors.Add(perConnection_ - std::min(read, perConnection_), StrCat("fetch: ", why));
    }
  }

  const OpenLoopOptions& options_;
  const Topic topic_;
  const std::vector<std::string> values_;
  const uint64_t perConnection_;  // records of each
  const uint64_t firstCounted_;
  const size_t mostRecords_;  // of a batch
  Clock::time_point start_;
  std::vector<Producer> producers_;
  std::vector<uint64_t> read_;  // records, by partition
  OpenLoopResult result_;
  bool isStopped_ = false;
  Crowd crowd_;
};

}  // namespace

absl::StatusOr<OpenLoopResult> RunOpenLoop(const OpenLoopOptions& options) {
  ASSIGN_OR_RETURN(std::vector<std::string> values, MakeValues(options.size));
  ASSIGN_OR_RETURN(Topic topic, PrepareTopic(options.bootstrap, options.topic,
                                             static_cast<int32_t>(options.connections), values[0]));
  return OpenLoop(options, std::move(topic), std::move(values)).Run();
}

}  // namespace kveil::load
