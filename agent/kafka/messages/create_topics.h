// CreateTopics (API 19): CreateTopicsResponse.json. Read for the topic ids in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct CreateTopicsResponse {
  static constexpr std::string_view kName = "CreateTopicsResponse";
  static constexpr ApiKey kApiKey = ApiKey::kCreateTopics;
  static constexpr VersionRange kVersions = {0, 7};

  struct Config {
    std::string_view name;
    std::optional<std::string_view> value;
    bool readOnly = false;
    int8_t configSource = -1;
    bool isSensitive = false;
    UnknownTaggedFields unknownTags;
  };
  struct Topic {
    std::string_view name;
    TopicId topicId;  // from version 7
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> errorMessage;                        // from version 1
    ErrorCode topicConfigErrorCode = ErrorCode::kNone;                   // from version 5
    int32_t numPartitions = -1;                                          // from version 5
    int16_t replicationFactor = -1;                                      // from version 5
    std::optional<std::vector<Config>> configs = std::vector<Config>();  // from version 5
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;  // from version 2
  std::vector<Topic> topics;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, CreateTopicsResponse::Config>& m) {
  v.Field("name", m.name);
  v.Field("value", m.value);
  v.Field("readOnly", m.readOnly);
  v.Field("configSource", m.configSource);
  v.Field("isSensitive", m.isSensitive);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, CreateTopicsResponse::Topic>& m) {
  v.Field("name", m.name);
  v.Field("topicId", m.topicId, {.since = 7});
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage, {.since = 1});
  v.Field("numPartitions", m.numPartitions, {.since = 5});
  v.Field("replicationFactor", m.replicationFactor, {.since = 5});
  v.Field("configs", m.configs, {.since = 5});
  v.Tags(m.unknownTags, Tag(0, "topicConfigErrorCode", m.topicConfigErrorCode, {.since = 5}, ErrorCode::kNone));
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, CreateTopicsResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs, {.since = 2});
  v.Field("topics", m.topics);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
