// ShareAcknowledge (API 79, KIP-932): ShareAcknowledgeRequest.json, ShareAcknowledgeResponse.json. Version 0 was the
// early access of Kafka 4.0 only.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/acknowledgement_batch.h"
#include "kafka/messages/common.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct ShareAcknowledgeRequest {
  static constexpr std::string_view kName = "ShareAcknowledgeRequest";
  static constexpr ApiKey kApiKey = ApiKey::kShareAcknowledge;
  static constexpr VersionRange kVersions = {0, 2};

  struct Partition {
    int32_t partitionIndex = 0;
    std::vector<AcknowledgementBatch> acknowledgementBatches;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    TopicId topicId;
    std::vector<Partition> partitions;
    UnknownTaggedFields unknownTags;
  };

  std::optional<std::string_view> groupId;
  std::optional<std::string_view> memberId;
  int32_t shareSessionEpoch = 0;  // as of ShareFetchRequest
  bool isRenewAck = false;        // from version 2
  std::vector<Topic> topics;
  UnknownTaggedFields unknownTags;
};

struct ShareAcknowledgeResponse {
  static constexpr std::string_view kName = "ShareAcknowledgeResponse";
  static constexpr ApiKey kApiKey = ApiKey::kShareAcknowledge;
  static constexpr VersionRange kVersions = {0, 2};

  struct Partition {
    int32_t partitionIndex = 0;
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> errorMessage;
    LeaderIdAndEpoch currentLeader;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    TopicId topicId;
    std::vector<Partition> partitions;
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  ErrorCode errorCode = ErrorCode::kNone;
  std::optional<std::string_view> errorMessage;
  int32_t acquisitionLockTimeoutMs = 0;  // from version 2
  std::vector<Topic> responses;
  std::vector<NodeEndpoint> nodeEndpoints;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareAcknowledgeRequest::Partition>& m) {
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("acknowledgementBatches", m.acknowledgementBatches);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareAcknowledgeRequest::Topic>& m) {
  v.Field("topicId", m.topicId);
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareAcknowledgeRequest>& m) {
  v.Field("groupId", m.groupId);
  v.Field("memberId", m.memberId);
  v.Field("shareSessionEpoch", m.shareSessionEpoch);
  v.Field("isRenewAck", m.isRenewAck, {.since = 2});
  v.Field("topics", m.topics);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareAcknowledgeResponse::Partition>& m) {
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("currentLeader", m.currentLeader);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareAcknowledgeResponse::Topic>& m) {
  v.Field("topicId", m.topicId);
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareAcknowledgeResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs);
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("acquisitionLockTimeoutMs", m.acquisitionLockTimeoutMs, {.since = 2});
  v.Field("responses", m.responses);
  v.Field("nodeEndpoints", m.nodeEndpoints);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
