// Batches that go to the broker ahead of the request that they came in: in parts, as sealing may make them too large
// for their topics; or whole, as nobody told how large a batch the topic takes.
//
// A produce request may hold one batch a partition. So the parts before the last go in requests of the agent's own,
// each when the one before it has been taken: the broker takes any first sequence from a producer that it does not
// know, so a part must not overtake another. The last goes with the producer's own request, whose answer then says of
// the whole batch what the broker said of its parts. A part that the broker does not take fails the batch; when the
// producer sends it again, it is cut alike, and the broker knows the parts that it has by their sequence numbers.
//
// Where the topic's limit is not known, the last part goes ahead, too. So the agent hears that the broker does not take
// a part before anything can get past it, and cuts what the broker has not taken into parts that are no larger than the
// batch came. It remembers nothing of that: when the producer sends the batch again, it goes the same way, and the
// broker knows the parts that it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "guard/refuse/produce_answer.h"
#include "guard/state/split_memory.h"
#include "io/task.h"
#include "kafka/messages/produce.h"
#include "policy/policy.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// Those of one request.
class SplitBatches {
 public:
  struct Part {
    Bytes batch;
    int32_t records = 0;
  };
  // Of a topic of which nobody told how large a batch it takes.
  struct UnknownLimit {
    std::string topic;
    // To cut it anew, while its request is worked on.
    const policy::TopicPolicy* sealedBy = nullptr;
    Bytes records;  // as it came; empty: it has been cut anew
  };
  struct Batch {
    PartitionAddress address;
    std::vector<Part> parts;  // the last is in the producer's request
    // Of an idempotent producer's batch.
    std::optional<SplitMemory::BatchId> id;
    std::optional<UnknownLimit> unknownLimit;  // then all parts go ahead

    size_t sent = 0;           // of the parts, those that the broker took
    int32_t recordsTaken = 0;  // in parts that went ahead
    int64_t baseOffset = -1;   // of the first record, as far as it is known
    Refusal refusal;           // by the broker, of a part that went ahead

    size_t bytes() const;  // memory that it takes, without the parts themselves
    bool failed() const { return refusal.code != kafka::ErrorCode::kNone; }
    size_t ahead() const { return unknownLimit.has_value() || parts.empty() ? parts.size() : parts.size() - 1; }
    bool HasAhead() const { return !failed() && sent < ahead(); }
    // Whether the producer's request holds nothing of it (any more).
    bool isSettled() const { return failed() || ahead() == parts.size(); }
    size_t largestPart() const;
    // Whether the broker refused a part for its size that is larger than the whole batch came. Once.
    bool MayBeCutSmaller() const;
    // These are what the broker has not taken.
    void CutSmaller(std::vector<Part> rest);

   private:
    friend class SplitBatches;
    void Take(const kafka::ProduceResponse::Partition* answer, size_t& room);
    void LearnOffset(int64_t offset);
    bool IsOutOfTheLog() const;
  };

  explicit SplitBatches(SplitMemory& memory) : memory_(memory) {}

  bool empty() const { return batches_.empty(); }

  // Memory that they take, without the parts themselves.
  size_t bytes() const;

  // A batch of two or more parts that is remembered, or one that has an unknown limit.
  void Add(Batch batch) { batches_.push_back(std::move(batch)); }
  // A batch that the broker has from an earlier time, and that is not in the request any more.
  void AddTaken(PartitionAddress address, int64_t baseOffset);

  // Sends what goes ahead and has not been sent, as `request` would be. An error means that the connection is lost on
  // either side, and that the broker may or may not have taken what was sent.
  io::Task<absl::Status> SendAhead(const kafka::ProduceRequest& request, const kafka::RequestHeader& header,
                                   proxy::Upstream& upstream);
  // Nothing more goes ahead: takes the batches of which nothing is left to send out of `request`.
  void Settle(kafka::ProduceRequest& request);
  std::vector<Batch>& batches() { return batches_; }

  // Makes the broker's answer to the rest one to the whole batches. It then refers to this.
  void Complete(ProduceAnswer& answer);

 private:
  kafka::ProduceRequest RequestOfNextParts(const kafka::ProduceRequest& request,
                                           const std::vector<Batch*>& batches) const;
  void TakeOutSettled(kafka::ProduceRequest& request) const;

  SplitMemory& memory_;
  std::vector<Batch> batches_;
  size_t room_ = 1 << 20;  // bytes that may still be kept of what the broker says of parts
};

}  // namespace kveil::guard
