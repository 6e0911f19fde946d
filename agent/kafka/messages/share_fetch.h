// ShareFetch (API 78, KIP-932): ShareFetchRequest.json, ShareFetchResponse.json. Version 0 was the early access of
// Kafka 4.0 only.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "kafka/error_code.h"
#include "kafka/messages/acknowledgement_batch.h"
#include "kafka/messages/common.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct ShareFetchRequest {
  static constexpr std::string_view kName = "ShareFetchRequest";
  static constexpr ApiKey kApiKey = ApiKey::kShareFetch;
  static constexpr VersionRange kVersions = {0, 2};
  // Epochs of a session; the ones above count its requests.
  static constexpr int32_t kFinalEpoch = -1;
  static constexpr int32_t kNewSession = 0;

  struct Partition {
    int32_t partitionIndex = 0;
    int32_t partitionMaxBytes = 0;  // version 0
    std::vector<AcknowledgementBatch> acknowledgementBatches;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    TopicId topicId;
    std::vector<Partition> partitions;
    UnknownTaggedFields unknownTags;
  };
  struct ForgottenTopic {
    TopicId topicId;
    std::vector<int32_t> partitions;
    UnknownTaggedFields unknownTags;
  };

  std::optional<std::string_view> groupId;
  std::optional<std::string_view> memberId;
  int32_t shareSessionEpoch = kNewSession;
  int32_t maxWaitMs = 0;
  int32_t minBytes = 0;
  int32_t maxBytes = std::numeric_limits<int32_t>::max();
  int32_t maxRecords = 0;       // from version 1
  int32_t batchSize = 0;        // from version 1
  int8_t shareAcquireMode = 0;  // from version 2
  bool isRenewAck = false;      // from version 2
  std::vector<Topic> topics;
  std::vector<ForgottenTopic> forgottenTopicsData;
  UnknownTaggedFields unknownTags;
};

struct ShareFetchResponse {
  static constexpr std::string_view kName = "ShareFetchResponse";
  static constexpr ApiKey kApiKey = ApiKey::kShareFetch;
  static constexpr VersionRange kVersions = {0, 2};

  struct AcquiredRecords {
    int64_t firstOffset = 0;
    int64_t lastOffset = 0;
    int16_t deliveryCount = 0;
    UnknownTaggedFields unknownTags;
  };
  struct Partition {
    int32_t partitionIndex = 0;
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> errorMessage;
    ErrorCode acknowledgeErrorCode = ErrorCode::kNone;
    std::optional<std::string_view> acknowledgeErrorMessage;
    LeaderIdAndEpoch currentLeader;
    std::optional<Bytes> records;  // null in version 0 only
    std::vector<AcquiredRecords> acquiredRecords;
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
  int32_t acquisitionLockTimeoutMs = 0;  // from version 1
  std::vector<Topic> responses;
  std::vector<NodeEndpoint> nodeEndpoints;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchRequest::Partition>& m) {
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("partitionMaxBytes", m.partitionMaxBytes, {.until = 0});
  v.Field("acknowledgementBatches", m.acknowledgementBatches);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchRequest::Topic>& m) {
  v.Field("topicId", m.topicId);
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchRequest::ForgottenTopic>& m) {
  v.Field("topicId", m.topicId);
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchRequest>& m) {
  v.Field("groupId", m.groupId);
  v.Field("memberId", m.memberId);
  v.Field("shareSessionEpoch", m.shareSessionEpoch);
  v.Field("maxWaitMs", m.maxWaitMs);
  v.Field("minBytes", m.minBytes);
  v.Field("maxBytes", m.maxBytes);
  v.Field("maxRecords", m.maxRecords, {.since = 1});
  v.Field("batchSize", m.batchSize, {.since = 1});
  v.Field("shareAcquireMode", m.shareAcquireMode, {.since = 2});
  v.Field("isRenewAck", m.isRenewAck, {.since = 2});
  v.Field("topics", m.topics);
  v.Field("forgottenTopicsData", m.forgottenTopicsData);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchResponse::AcquiredRecords>& m) {
  v.Field("firstOffset", m.firstOffset);
  v.Field("lastOffset", m.lastOffset);
  v.Field("deliveryCount", m.deliveryCount);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchResponse::Partition>& m) {
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("acknowledgeErrorCode", m.acknowledgeErrorCode);
  v.Field("acknowledgeErrorMessage", m.acknowledgeErrorMessage);
  v.Field("currentLeader", m.currentLeader);
  v.Field("records", m.records, {.nullableUntil = 0});
  v.Field("acquiredRecords", m.acquiredRecords);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchResponse::Topic>& m) {
  v.Field("topicId", m.topicId);
  v.Field("partitions", m.partitions);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ShareFetchResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs);
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("acquisitionLockTimeoutMs", m.acquisitionLockTimeoutMs, {.since = 1});
  v.Field("responses", m.responses);
  v.Field("nodeEndpoints", m.nodeEndpoints);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
