// Fetch (API 1): FetchRequest.json, FetchResponse.json. Kafka 4.0 dropped versions 0 to 3, to which older brokers give
// records without their headers: messages of magic 0 and 1.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "kafka/error_code.h"
#include "kafka/messages/common.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct FetchRequest {
  static constexpr std::string_view kName = "FetchRequest";
  static constexpr ApiKey kApiKey = ApiKey::kFetch;
  static constexpr VersionRange kVersions = {0, 18};
  static constexpr int16_t kFirstVersionWithMaxBytes = 3;   // a bound on the whole response (KIP-74)
  static constexpr int16_t kFirstVersionWithSessions = 7;   // KIP-227
  static constexpr int16_t kFirstVersionWithTopicIds = 13;  // in place of names (KIP-516)
  // Epochs of a session; the ones above count its requests (KIP-227).
  static constexpr int32_t kNoSession = -1;
  static constexpr int32_t kNewSession = 0;

  struct ReplicaState {
    int32_t replicaId = -1;
    int64_t replicaEpoch = -1;
    UnknownTaggedFields unknownTags;

    friend bool operator==(const ReplicaState&, const ReplicaState&) = default;
  };
  struct Partition {
    int32_t partition = 0;
    int32_t currentLeaderEpoch = -1;
    int64_t fetchOffset = 0;
    int32_t lastFetchedEpoch = -1;
    int64_t logStartOffset = -1;
    int32_t partitionMaxBytes = 0;
    TopicId replicaDirectoryId;                                   // from version 17
    int64_t highWatermark = std::numeric_limits<int64_t>::max();  // from version 18
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    std::string_view topic;  // until version 12
    TopicId topicId;         // from version 13
    std::vector<Partition> partitions;
    UnknownTaggedFields unknownTags;
  };
  struct ForgottenTopic {
    std::string_view topic;  // until version 12
    TopicId topicId;         // from version 13
    std::vector<int32_t> partitions;
    UnknownTaggedFields unknownTags;
  };

  // A broker's own fetch: its log must stay sealed, so what it gets is never opened.
  bool IsFromReplica() const { return replicaId >= 0 || replicaState.replicaId >= 0; }

  std::optional<std::string_view> clusterId;
  int32_t replicaId = -1;     // until version 14
  ReplicaState replicaState;  // from version 15
  int32_t maxWaitMs = 0;
  int32_t minBytes = 0;
  int32_t maxBytes = std::numeric_limits<int32_t>::max();
  int8_t isolationLevel = 0;
  int32_t sessionId = 0;
  int32_t sessionEpoch = kNoSession;
  std::vector<Topic> topics;
  std::vector<ForgottenTopic> forgottenTopicsData;
  std::string_view rackId;
  UnknownTaggedFields unknownTags;
};

struct FetchResponse {
  static constexpr std::string_view kName = "FetchResponse";
  static constexpr ApiKey kApiKey = ApiKey::kFetch;
  static constexpr VersionRange kVersions = {0, 18};
  // Until then a broker (until 3.9) gives messages of magic 0 and 1, which have no headers (KIP-82, KIP-98).
  static constexpr int16_t kFirstVersionWithHeaders = 4;
  static constexpr int16_t kFirstVersionWithZstd = 10;           // batches may use this codec (KIP-110)
  static constexpr int16_t kFirstVersionWithNodeEndpoints = 16;  // a broker that may be new to the client (KIP-951)

  struct EpochEndOffset {
    int32_t epoch = -1;
    int64_t endOffset = -1;
    UnknownTaggedFields unknownTags;

    friend bool operator==(const EpochEndOffset&, const EpochEndOffset&) = default;
  };
  struct SnapshotId {
    int64_t endOffset = -1;
    int32_t epoch = -1;
    UnknownTaggedFields unknownTags;

    friend bool operator==(const SnapshotId&, const SnapshotId&) = default;
  };
  struct AbortedTransaction {
    int64_t producerId = 0;
    int64_t firstOffset = 0;
    UnknownTaggedFields unknownTags;
  };
  struct Partition {
    int32_t partitionIndex = 0;
    ErrorCode errorCode = ErrorCode::kNone;
    int64_t highWatermark = 0;
    int64_t lastStableOffset = -1;
    int64_t logStartOffset = -1;
    EpochEndOffset divergingEpoch;   // from version 12
    LeaderIdAndEpoch currentLeader;  // from version 12
    SnapshotId snapshotId;           // from version 12
    std::optional<std::vector<AbortedTransaction>> abortedTransactions;
    int32_t preferredReadReplica = -1;  // from version 11
    std::optional<Bytes> records;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    std::string_view topic;  // until version 12
    TopicId topicId;         // from version 13
    std::vector<Partition> partitions;
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  ErrorCode errorCode = ErrorCode::kNone;  // of the session
  int32_t sessionId = 0;
  std::vector<Topic> responses;
  std::vector<NodeEndpoint> nodeEndpoints;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchRequest::ReplicaState>& m) {
  v.Field("replicaId", m.replicaId);
  v.Field("replicaEpoch", m.replicaEpoch);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchRequest::Partition>& m) {
  v.Field("partition", m.partition);
  v.Field("currentLeaderEpoch", m.currentLeaderEpoch, {.since = 9});
  v.Field("fetchOffset", m.fetchOffset);
  v.Field("lastFetchedEpoch", m.lastFetchedEpoch, {.since = 12});
  v.Field("logStartOffset", m.logStartOffset, {.since = 5});
  v.Field("partitionMaxBytes", m.partitionMaxBytes);
  v.Tags(m.unknownTags, Tag(0, "replicaDirectoryId", m.replicaDirectoryId, {.since = 17}),
         Tag(1, "highWatermark", m.highWatermark, {.since = 18}, std::numeric_limits<int64_t>::max()));
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchRequest::Topic>& m) {
  v.Field("topic", m.topic, {.until = FetchRequest::kFirstVersionWithTopicIds - 1});
  v.Field("topicId", m.topicId, {.since = FetchRequest::kFirstVersionWithTopicIds});
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchRequest::ForgottenTopic>& m) {
  v.Field("topic", m.topic, {.until = FetchRequest::kFirstVersionWithTopicIds - 1});
  v.Field("topicId", m.topicId, {.since = FetchRequest::kFirstVersionWithTopicIds});
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchRequest>& m) {
  v.Field("replicaId", m.replicaId, {.until = 14});
  v.Field("maxWaitMs", m.maxWaitMs);
  v.Field("minBytes", m.minBytes);
  v.Field("maxBytes", m.maxBytes, {.since = FetchRequest::kFirstVersionWithMaxBytes});
  v.Field("isolationLevel", m.isolationLevel, {.since = 4});
  v.Field("sessionId", m.sessionId, {.since = FetchRequest::kFirstVersionWithSessions});
  v.Field("sessionEpoch", m.sessionEpoch, {.since = FetchRequest::kFirstVersionWithSessions});
  v.Field("topics", m.topics);
  v.Field("forgottenTopicsData", m.forgottenTopicsData, {.since = FetchRequest::kFirstVersionWithSessions});
  v.Field("rackId", m.rackId, {.since = 11});
  v.Tags(m.unknownTags, Tag(0, "clusterId", m.clusterId, {.since = 12}),
         Tag(1, "replicaState", m.replicaState, {.since = 15}));
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchResponse::EpochEndOffset>& m) {
  v.Field("epoch", m.epoch);
  v.Field("endOffset", m.endOffset);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchResponse::SnapshotId>& m) {
  v.Field("endOffset", m.endOffset);
  v.Field("epoch", m.epoch);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchResponse::AbortedTransaction>& m) {
  v.Field("producerId", m.producerId);
  v.Field("firstOffset", m.firstOffset);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchResponse::Partition>& m) {
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("errorCode", m.errorCode);
  v.Field("highWatermark", m.highWatermark);
  v.Field("lastStableOffset", m.lastStableOffset, {.since = 4});
  v.Field("logStartOffset", m.logStartOffset, {.since = 5});
  v.Field("abortedTransactions", m.abortedTransactions, {.since = 4});
  v.Field("preferredReadReplica", m.preferredReadReplica, {.since = 11});
  v.Field("records", m.records);
  v.Tags(m.unknownTags, Tag(0, "divergingEpoch", m.divergingEpoch, {.since = 12}),
         Tag(1, "currentLeader", m.currentLeader, {.since = 12}), Tag(2, "snapshotId", m.snapshotId, {.since = 12}));
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchResponse::Topic>& m) {
  v.Field("topic", m.topic, {.until = FetchRequest::kFirstVersionWithTopicIds - 1});
  v.Field("topicId", m.topicId, {.since = FetchRequest::kFirstVersionWithTopicIds});
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FetchResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs, {.since = 1});
  v.Field("errorCode", m.errorCode, {.since = FetchRequest::kFirstVersionWithSessions});
  v.Field("sessionId", m.sessionId, {.since = FetchRequest::kFirstVersionWithSessions});
  v.Field("responses", m.responses);
  v.Tags(m.unknownTags,
         Tag(0, "nodeEndpoints", m.nodeEndpoints, {.since = FetchResponse::kFirstVersionWithNodeEndpoints}));
}

}  // namespace kveil::kafka
