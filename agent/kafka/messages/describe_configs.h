// DescribeConfigs (API 32): DescribeConfigsRequest.json, DescribeConfigsResponse.json. Asked by the agent itself, for a
// topic's limits.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/description.h"

namespace kveil::kafka {

enum class ConfigResourceType : int8_t { kUnknown = 0, kTopic = 2, kBroker = 4 };

struct DescribeConfigsRequest {
  static constexpr std::string_view kName = "DescribeConfigsRequest";
  static constexpr ApiKey kApiKey = ApiKey::kDescribeConfigs;
  static constexpr VersionRange kVersions = {0, 4};
  // Every broker from 2.0 to 4.x has this version: KIP-226 added it, and KIP-896 left it the oldest.
  static constexpr int16_t kVersionOfEveryBroker = 1;

  struct Resource {
    ConfigResourceType resourceType = ConfigResourceType::kUnknown;
    std::string_view resourceName;
    std::optional<std::vector<std::string_view>> configurationKeys;  // null: all of them
    UnknownTaggedFields unknownTags;
  };

  std::vector<Resource> resources;
  bool includeSynonyms = false;       // from version 1
  bool includeDocumentation = false;  // from version 3
  UnknownTaggedFields unknownTags;
};

struct DescribeConfigsResponse {
  static constexpr std::string_view kName = "DescribeConfigsResponse";
  static constexpr ApiKey kApiKey = ApiKey::kDescribeConfigs;
  static constexpr VersionRange kVersions = {0, 4};

  struct Synonym {
    std::string_view name;
    std::optional<std::string_view> value;
    int8_t source = 0;
    UnknownTaggedFields unknownTags;
  };
  struct Config {
    std::string_view name;
    std::optional<std::string_view> value;  // null: a secret one
    bool readOnly = false;
    bool isDefault = false;    // version 0
    int8_t configSource = -1;  // from version 1
    bool isSensitive = false;
    std::vector<Synonym> synonyms;                  // from version 1
    int8_t configType = 0;                          // from version 3
    std::optional<std::string_view> documentation;  // from version 3
    UnknownTaggedFields unknownTags;
  };
  struct Result {
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> errorMessage;
    ConfigResourceType resourceType = ConfigResourceType::kUnknown;
    std::string_view resourceName;
    std::vector<Config> configs;
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  std::vector<Result> results;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeConfigsRequest::Resource>& m) {
  v.Field("resourceType", m.resourceType);
  v.Field("resourceName", m.resourceName);
  v.Field("configurationKeys", m.configurationKeys);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeConfigsRequest>& m) {
  v.Field("resources", m.resources);
  v.Field("includeSynonyms", m.includeSynonyms, {.since = 1});
  v.Field("includeDocumentation", m.includeDocumentation, {.since = 3});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeConfigsResponse::Synonym>& m) {
  v.Field("name", m.name);
  v.Field("value", m.value);
  v.Field("source", m.source);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeConfigsResponse::Config>& m) {
  v.Field("name", m.name);
  v.Field("value", m.value);
  v.Field("readOnly", m.readOnly);
  v.Field("isDefault", m.isDefault, {.until = 0});
  v.Field("configSource", m.configSource, {.since = 1});
  v.Field("isSensitive", m.isSensitive);
  v.Field("synonyms", m.synonyms, {.since = 1});
  v.Field("configType", m.configType, {.since = 3});
  v.Field("documentation", m.documentation, {.since = 3});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeConfigsResponse::Result>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("resourceType", m.resourceType);
  v.Field("resourceName", m.resourceName);
  v.Field("configs", m.configs);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeConfigsResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs);
  v.Field("results", m.results);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
