// What a ShareFetch request asks for and its workload may not read.
//
// The broker must not hear of that: what it hands out to a client that does not get it would be given up after some
// tries. So it is taken out of the request and answered with the response. A request of a session names only what is
// new in it, so what is withheld is remembered (share_session.h), answered again with each response, as a broker does
// it, and told to the broker once the workload may read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "guard/apis/share_session.h"
#include "kafka/error_code.h"
#include "kafka/messages/share_fetch.h"

namespace kveil::guard {

// Of one request.
class ShareRefusals {
 public:
  using Topics = std::vector<kafka::ShareFetchResponse::Topic>;

  // `errorOf` says what a client hears in place of a topic's records, kNone if the workload may read it. It is asked
  // once for each topic.
  ShareRefusals(ShareSession& session, std::function<kafka::ErrorCode(const kafka::TopicId&)> errorOf)
      : session_(session), errorOf_(std::move(errorOf)) {}

  // Changes the request to what the broker may hear. `mayHaveChanged`: what the broker was told before may be denied by
  // now, by other policies, or for the claims of this request. Returns whether that changed the request. An error: more
  // is refused than may be remembered until the response. Call it once.
  absl::StatusOr<bool> TakeOut(kafka::ShareFetchRequest& request, bool mayHaveChanged);
  // Then: what the client hears of what was refused.
  Topics TakeRefused() { return std::move(refused_); }

  // Puts what was refused into the broker's response, in the place of what it says of the same partitions.
  static void Add(const Topics& refused, kafka::ShareFetchResponse& response);

 private:
  kafka::ErrorCode ErrorOf(const kafka::TopicId& id);
  void Refuse(const ShareSession::Partition& partition, kafka::ErrorCode error, bool acknowledges);
  bool TakeOutRefused(kafka::ShareFetchRequest& request);
  bool PutInAllowed(kafka::ShareFetchRequest& request);
  void WithholdDenied();
  bool PutInForgotten(kafka::ShareFetchRequest& request);

  ShareSession& session_;
  const std::function<kafka::ErrorCode(const kafka::TopicId&)> errorOf_;
  absl::flat_hash_map<kafka::TopicId, kafka::ErrorCode> errors_;
  Topics refused_;
  absl::flat_hash_map<kafka::TopicId, size_t> refusedAt_;                // their indexes
  absl::flat_hash_map<kafka::TopicId, std::vector<int32_t>> forgotten_;  // what the broker is told to forget
  size_t partitions_ = 0;                                                // that were refused
};

}  // namespace kveil::guard
