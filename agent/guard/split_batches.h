// Batches that sealing made too large for their topics, on their way to the broker in parts.
//
// A produce request may hold one batch a partition. So the parts before the last go in requests of the agent's own,
// each when the one before it has been taken: the broker takes any first sequence from a producer that it does not
// know, so a part must not overtake another. The last goes with the producer's own request, whose answer then says of
// the whole batch what the broker said of its parts. A part that the broker does not take fails the batch; when the
// producer sends it again, the broker knows the parts that it has by their sequence numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "guard/produce_answer.h"
#include "guard/split_memory.h"
#include "io/task.h"
#include "kafka/messages/produce.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// Those of one request.
class SplitBatches {
 public:
  struct Part {
    Bytes batch;
    int32_t records = 0;
  };
  struct Failure {
    PartitionAddress address;
    std::optional<SplitMemory::BatchId> id;
  };

  explicit SplitBatches(SplitMemory& memory) : memory_(memory) {}

  bool empty() const { return batches_.empty(); }

  // A batch that goes in these parts, two or more; the last is in the producer's request. `id` for an idempotent
  // producer's, which may have been sent before.
  void Add(PartitionAddress address, std::vector<Part> parts, std::optional<SplitMemory::BatchId> id, bool sentBefore);
  // A batch that the broker has from an earlier time, and that is not in the request any more.
  void AddTaken(PartitionAddress address, int64_t baseOffset);

  // Sends all parts but the last, and takes the batches that failed with one of them out of `request`, which is
  // otherwise what they are sent with. An error means that the connection to the broker is lost, and that it may or may
  // not have taken what was sent.
  io::Task<absl::Status> SendLeading(kafka::ProduceRequest& request, const kafka::RequestHeader& header,
                                     proxy::Upstream& upstream);
  std::vector<Failure> failures() const;

  // Makes the broker's answer to the last parts one to the whole batches. It then refers to this.
  void Complete(kafka::ProduceResponse& response);

 private:
  struct Batch {
    PartitionAddress address;
    std::vector<Part> parts;  // none: taken before
    std::optional<SplitMemory::BatchId> id;
    bool sentBefore = false;
    int32_t recordsTaken = 0;  // in the parts before the last
    int64_t baseOffset = -1;   // of the first record, as far as it is known
    Refusal refusal;           // by the broker, of a part before the last

    bool failed() const { return refusal.code != kafka::ErrorCode::kNone; }
    bool HasLeading(size_t round) const { return !failed() && round + 1 < parts.size(); }
    void Take(const Part& part, const kafka::ProduceResponse::Partition* answer);
    void LearnOffset(int64_t offset);
    bool IsOutOfTheLog() const;
  };

  kafka::ProduceRequest RequestOfRound(const kafka::ProduceRequest& request, size_t round) const;
  static void Remove(const PartitionAddress& address, kafka::ProduceRequest& request);

  SplitMemory& memory_;
  std::vector<Batch> batches_;
};

}  // namespace kveil::guard
