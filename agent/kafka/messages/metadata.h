// Metadata (API 3): MetadataRequest.json, MetadataResponse.json.
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

struct MetadataRequest {
  static constexpr std::string_view kName = "MetadataRequest";
  static constexpr ApiKey kApiKey = ApiKey::kMetadata;
  static constexpr VersionRange kVersions = {0, 13};
  // Brokers look at a topic's id (KIP-516). Every broker that speaks Fetch by id has this version.
  static constexpr int16_t kFirstVersionByTopicId = 12;

  struct Topic {
    TopicId topicId;                       // from version 10
    std::optional<std::string_view> name;  // null from version 10
    UnknownTaggedFields unknownTags;
  };

  std::optional<std::vector<Topic>> topics = std::vector<Topic>();  // null from version 1: all topics; version 0: empty
  bool allowAutoTopicCreation = true;                               // from version 4
  bool includeClusterAuthorizedOperations = false;                  // versions 8 to 10
  bool includeTopicAuthorizedOperations = false;                    // from version 8
  UnknownTaggedFields unknownTags;
};

struct MetadataResponse {
  static constexpr std::string_view kName = "MetadataResponse";
  static constexpr ApiKey kApiKey = ApiKey::kMetadata;
  static constexpr VersionRange kVersions = {0, 13};
  static constexpr int32_t kOperationsNotAsked = std::numeric_limits<int32_t>::min();

  struct Broker {
    int32_t nodeId = 0;
    std::string_view host;
    int32_t port = 0;
    std::optional<std::string_view> rack;
    UnknownTaggedFields unknownTags;
  };
  struct Partition {
    ErrorCode errorCode = ErrorCode::kNone;
    int32_t partitionIndex = 0;
    int32_t leaderId = 0;
    int32_t leaderEpoch = -1;
    std::vector<int32_t> replicaNodes;
    std::vector<int32_t> isrNodes;
    std::vector<int32_t> offlineReplicas;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> name;  // null from version 12: an id that the broker does not know
    TopicId topicId;                       // from version 10
    bool isInternal = false;
    std::vector<Partition> partitions;
    int32_t topicAuthorizedOperations = kOperationsNotAsked;
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  std::vector<Broker> brokers;
  std::optional<std::string_view> clusterId;
  int32_t controllerId = -1;
  std::vector<Topic> topics;
  int32_t clusterAuthorizedOperations = kOperationsNotAsked;
  ErrorCode errorCode = ErrorCode::kNone;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, MetadataRequest::Topic>& m) {
  v.Field("topicId", m.topicId, {.since = 10});
  v.Field("name", m.name, {.nullableSince = 10});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, MetadataRequest>& m) {
  v.Field("topics", m.topics, {.nullableSince = 1});
  v.Field("allowAutoTopicCreation", m.allowAutoTopicCreation, {.since = 4});
  v.Field("includeClusterAuthorizedOperations", m.includeClusterAuthorizedOperations, {.since = 8, .until = 10});
  v.Field("includeTopicAuthorizedOperations", m.includeTopicAuthorizedOperations, {.since = 8});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, MetadataResponse::Broker>& m) {
  v.Field("nodeId", m.nodeId);
  v.Field("host", m.host);
  v.Field("port", m.port);
  v.Field("rack", m.rack, {.since = 1});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, MetadataResponse::Partition>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("partitionIndex", m.partitionIndex);
  v.Field("leaderId", m.leaderId);
  v.Field("leaderEpoch", m.leaderEpoch, {.since = 7});
  v.Field("replicaNodes", m.replicaNodes);
  v.Field("isrNodes", m.isrNodes);
  v.Field("offlineReplicas", m.offlineReplicas, {.since = 5});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, MetadataResponse::Topic>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("name", m.name, {.nullableSince = 12});
  v.Field("topicId", m.topicId, {.since = 10});
  v.Field("isInternal", m.isInternal, {.since = 1});
  v.Field("partitions", m.partitions);
  v.Field("topicAuthorizedOperations", m.topicAuthorizedOperations, {.since = 8});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, MetadataResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs, {.since = 3});
  v.Field("brokers", m.brokers);
  v.Field("clusterId", m.clusterId, {.since = 2});
  v.Field("controllerId", m.controllerId, {.since = 1});
  v.Field("topics", m.topics);
  v.Field("clusterAuthorizedOperations", m.clusterAuthorizedOperations, {.since = 8, .until = 10});
  v.Field("errorCode", m.errorCode, {.since = 13});
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
