// Produce (API 0): ProduceRequest.json, ProduceResponse.json. Kafka 4.0 dropped versions 0 to 2, which carry messages
// of magic 0 and 1.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "kafka/error_code.h"
#include "kafka/messages/common.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct ProduceRequest {
  static constexpr std::string_view kName = "ProduceRequest";
  static constexpr ApiKey kApiKey = ApiKey::kProduce;
  static constexpr VersionRange kVersions = {0, 13};
  static constexpr int16_t kFirstVersionWithZstd = 7;       // batches may use this codec (KIP-110)
  static constexpr int16_t kFirstVersionWithTopicIds = 13;  // in place of names (KIP-516)

  struct Partition {
    int32_t index = 0;
    std::optional<Bytes> records;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    std::string_view name;  // until version 12
    TopicId topicId;        // from version 13
    std::vector<Partition> partitionData;
    UnknownTaggedFields unknownTags;
  };

  std::optional<std::string_view> transactionalId;
  int16_t acks = 0;  // 0: no response will come; -1: all in-sync replicas
  int32_t timeoutMs = 0;
  std::vector<Topic> topicData;
  UnknownTaggedFields unknownTags;
};

struct ProduceResponse {
  static constexpr std::string_view kName = "ProduceResponse";
  static constexpr ApiKey kApiKey = ApiKey::kProduce;
  static constexpr VersionRange kVersions = {0, 13};
  static constexpr int16_t kFirstVersionWithNodeEndpoints = 10;  // a broker that may be new to the client (KIP-951)

  struct RecordError {
    int32_t batchIndex = 0;
    std::optional<std::string_view> batchIndexErrorMessage;
    UnknownTaggedFields unknownTags;
  };
  struct Partition {
    int32_t index = 0;
    ErrorCode errorCode = ErrorCode::kNone;
    int64_t baseOffset = 0;  // -1 with an error
    int64_t logAppendTimeMs = -1;
    int64_t logStartOffset = -1;
    std::vector<RecordError> recordErrors;         // from version 8
    std::optional<std::string_view> errorMessage;  // from version 8
    LeaderIdAndEpoch currentLeader;                // from version 10
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    std::string_view name;  // until version 12
    TopicId topicId;        // from version 13
    std::vector<Partition> partitionResponses;
    UnknownTaggedFields unknownTags;
  };

  std::vector<Topic> responses;
  int32_t throttleTimeMs = 0;
  std::vector<NodeEndpoint> nodeEndpoints;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceRequest::Partition>& m) {
  v.Field("index", m.index);
  v.Field("records", m.records);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceRequest::Topic>& m) {
  v.Field("name", m.name, {.until = ProduceRequest::kFirstVersionWithTopicIds - 1});
  v.Field("topicId", m.topicId, {.since = ProduceRequest::kFirstVersionWithTopicIds});
  v.Field("partitionData", m.partitionData);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceRequest>& m) {
  v.Field("transactionalId", m.transactionalId, {.since = 3});
  v.Field("acks", m.acks);
  v.Field("timeoutMs", m.timeoutMs);
  v.Field("topicData", m.topicData);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceResponse::RecordError>& m) {
  v.Field("batchIndex", m.batchIndex);
  v.Field("batchIndexErrorMessage", m.batchIndexErrorMessage);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceResponse::Partition>& m) {
  v.Field("index", m.index);
  v.Field("errorCode", m.errorCode);
  v.Field("baseOffset", m.baseOffset);
  v.Field("logAppendTimeMs", m.logAppendTimeMs, {.since = 2});
  v.Field("logStartOffset", m.logStartOffset, {.since = 5});
  v.Field("recordErrors", m.recordErrors, {.since = 8});
  v.Field("errorMessage", m.errorMessage, {.since = 8});
  v.Tags(m.unknownTags, Tag(0, "currentLeader", m.currentLeader, {.since = 10}));
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceResponse::Topic>& m) {
  v.Field("name", m.name, {.until = ProduceRequest::kFirstVersionWithTopicIds - 1});
  v.Field("topicId", m.topicId, {.since = ProduceRequest::kFirstVersionWithTopicIds});
  v.Field("partitionResponses", m.partitionResponses);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ProduceResponse>& m) {
  v.Field("responses", m.responses);
  v.Field("throttleTimeMs", m.throttleTimeMs, {.since = 1});
  v.Tags(m.unknownTags,
         Tag(0, "nodeEndpoints", m.nodeEndpoints, {.since = ProduceResponse::kFirstVersionWithNodeEndpoints}));
}

}  // namespace kveil::kafka
