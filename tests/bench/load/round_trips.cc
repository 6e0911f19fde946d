#include "load/round_trips.h"

#include <thread>
#include <vector>

#include "base/status_macros.h"
#include "batches.h"
#include "load/client.h"
#include "load/requests.h"

namespace kveil::load {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

absl::StatusOr<PingResult> RunPings(const PingOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<std::string> values, MakeValues(options.size));
  ASSIGN_OR_RETURN(const Topic topic, PrepareTopic(options.bootstrap, options.topic, 1, values[0]));
  ASSIGN_OR_RETURN(Client client, Client::Connect(topic.leaders[0]));
  PingResult result;
  for (uint64_t i = 0; i < options.warmUp + options.count; ++i) {
    const ByteBuffer batch =
        kafka::MakeBatch(1, [&](int32_t) -> std::string_view { return values[i % values.size()]; });
    const ByteBuffer request = ProduceRequest(topic.name, 0, options.acks, batch);
    const Clock::time_point begun = Clock::now();
    ASSIGN_OR_RETURN(const Bytes answer, client.Call(request));
    const Clock::duration passed = Clock::now() - begun;
    if (const absl::StatusOr<int64_t> offset = ProducedOffset(answer); !offset.ok()) {
      result.errors.Add(1, offset.status());
    } else if (i >= options.warmUp) {
      result.histogram.Record(passed);
    }
    std::this_thread::sleep_for(options.pause);
  }
  return result;
}

absl::StatusOr<FirstAnswer> MeasureFirstAnswer(const SocketAddress& broker) {
  const ByteBuffer request = ApiVersionsRequest();
  const Clock::time_point begun = Clock::now();
  ASSIGN_OR_RETURN(Client client, Client::Connect(broker));
  const Clock::duration connected = Clock::now() - begun;
  ASSIGN_OR_RETURN(const Bytes answer, client.Call(request));
  const Clock::duration answered = Clock::now() - begun;
  RETURN_IF_ERROR(CheckApiVersions(answer));
  return FirstAnswer{connected, answered};
}

}  // namespace kveil::load
