// DescribeTopicPartitions (API 75, KIP-966): DescribeTopicPartitionsResponse.json. Read for the topic ids in it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct DescribeTopicPartitionsResponse {
  static constexpr std::string_view kName = "DescribeTopicPartitionsResponse";
  static constexpr ApiKey kApiKey = ApiKey::kDescribeTopicPartitions;
  static constexpr VersionRange kVersions = {0, 0};
  static constexpr int32_t kOperationsNotAsked = std::numeric_limits<int32_t>::min();

  struct Partition {
    ErrorCode errorCode = ErrorCode::kNone;
    int32_t partitionIndex = 0;
    int32_t leaderId = 0;
    int32_t leaderEpoch = -1;
    std::vector<int32_t> replicaNodes;
    std::vector<int32_t> isrNodes;
    std::optional<std::vector<int32_t>> eligibleLeaderReplicas;
    std::optional<std::vector<int32_t>> lastKnownElr;
    std::vector<int32_t> offlineReplicas;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> name;
    TopicId topicId;
    bool isInternal = false;
    std::vector<Partition> partitions;
    int32_t topicAuthorizedOperations = kOperationsNotAsked;
    UnknownTaggedFields unknownTags;
  };
  struct Cursor {
    std::string_view topicName;
    int32_t partitionIndex = 0;
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  std::vector<Topic> topics;
  std::optional<Cursor> nextCursor;  // where the next request goes on; null: that was all
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeTopicPartitionsResponse::Partition>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("leaderId", m.leaderId);
  v.Field("leaderEpoch", m.leaderEpoch);
  v.Field("replicaNodes", m.replicaNodes);
  v.Field("isrNodes", m.isrNodes);
  v.Field("eligibleLeaderReplicas", m.eligibleLeaderReplicas);
  v.Field("lastKnownElr", m.lastKnownElr);
  v.Field("offlineReplicas", m.offlineReplicas);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeTopicPartitionsResponse::Topic>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("name", m.name);
  v.Field("topicId", m.topicId);
  v.Field("isInternal", m.isInternal);
  v.Field("partitions", m.partitions);
  v.Field("topicAuthorizedOperations", m.topicAuthorizedOperations);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeTopicPartitionsResponse::Cursor>& m) {
  v.Field("topicName", m.topicName);
  v.Field("partitionIndex", m.partitionIndex);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeTopicPartitionsResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs);
  v.Field("topics", m.topics);
  v.Field("nextCursor", m.nextCursor);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
