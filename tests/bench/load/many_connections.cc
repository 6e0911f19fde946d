#include "load/many_connections.h"

#include <sys/resource.h>

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

constexpr size_t kOtherDescriptors = 64;
constexpr auto kPatience = std::chrono::seconds(30);

Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

class ManyConnections {
 public:
  ManyConnections(const ManyConnectionsOptions& options, Topic topic, std::vector<ByteBuffer> requests)
      : options_(options),
        topic_(std::move(topic)),
        requests_(std::move(requests)),
        sentAt_(options.active),
        crowd_([this](size_t connection, Bytes answer) { OnAnswer(connection, answer); }) {}

  ManyConnectionsResult Run() {
    std::vector<SocketAddress> brokers;
    for (size_t i = 0; i < options_.open; ++i) brokers.push_back(topic_.leaders[i % topic_.leaders.size()]);
    const Clock::time_point begun = Clock::now();
    crowd_.Open(brokers);
    const Clock::time_point opened = Clock::now();
    result_.openSeconds = std::chrono::duration<double>(opened - begun).count();
    start_ = opened + Seconds(options_.warmUp);
    end_ = start_ + Seconds(options_.seconds);
    for (size_t i = 0; i < options_.active; ++i) {
      for (size_t n = 0; n < options_.inFlight; ++n) Produce(i, opened);
    }
    while (Clock::now() < end_) crowd_.Turn(end_);
    const Clock::time_point limit = end_ + kPatience;
    while (WaitsForAnswers() && Clock::now() < limit) crowd_.Turn(limit);
    result_.errors.Add(crowd_.failed(), crowd_.firstProblem());
    for (const auto& unanswered : sentAt_) result_.errors.Add(unanswered.size(), "no answer in time");
    return std::move(result_);
  }

 private:
  void Produce(size_t connection, Clock::time_point now) {
    sentAt_[connection].push_back(now);
    crowd_.Send(connection, requests_[connection % requests_.size()]);
  }

  void OnAnswer(size_t connection, Bytes answer) {
    const Clock::time_point now = Clock::now();
    if (connection >= sentAt_.size() || sentAt_[connection].empty()) {
      return result_.errors.Add(1, "an answer to nothing");
    }
    const Clock::time_point sent = sentAt_[connection].front();
    sentAt_[connection].pop_front();
    if (const absl::StatusOr<int64_t> offset = ProducedOffset(answer); !offset.ok()) {
      result_.errors.Add(1, offset.status());
    } else if (now >= start_ && now < end_) {
      ++result_.batches;
      result_.latency.Record(now - sent);
    }
    if (now < end_) Produce(connection, now);
  }

  bool WaitsForAnswers() const {
    for (size_t i = 0; i < sentAt_.size(); ++i) {
      if (!sentAt_[i].empty() && crowd_.IsOpen(i)) return true;
    }
    return false;
  }

  const ManyConnectionsOptions& options_;
  const Topic topic_;
  const std::vector<ByteBuffer> requests_;  // by partition
  std::vector<std::deque<Clock::time_point>> sentAt_;
  Clock::time_point start_;
  Clock::time_point end_;
  ManyConnectionsResult result_;
  Crowd crowd_;
};

}  // namespace

absl::StatusOr<ManyConnectionsResult> RunManyConnections(const ManyConnectionsOptions& options) {
  RETURN_IF_ERROR(AllowDescriptors(options.open + kOtherDescriptors));
  ASSIGN_OR_RETURN(const std::vector<std::string> values, MakeValues(options.size));
  ASSIGN_OR_RETURN(Topic topic, PrepareTopic(options.bootstrap, options.topic, options.partitions, values[0]));
  std::vector<ByteBuffer> requests;
  for (int32_t partition = 0; partition < options.partitions; ++partition) {
    const std::string& value = values[static_cast<size_t>(partition) % values.size()];
    const ByteBuffer batch = kafka::MakeBatch(1, [&](int32_t) -> std::string_view { return value; });
    requests.push_back(ProduceRequest(topic.name, partition, options.acks, batch));
  }
  return ManyConnections(options, std::move(topic), std::move(requests)).Run();
}

absl::Status AllowDescriptors(size_t count) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= count) return absl::OkStatus();
  limit.rlim_cur = count;
  limit.rlim_max = std::max<rlim_t>(limit.rlim_max, count);
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) return absl::OkStatus();
  return absl::PermissionDeniedError(StrCat("no more than ", limit.rlim_cur, " descriptors: ulimit -n"));
}

}  // namespace kveil::load
