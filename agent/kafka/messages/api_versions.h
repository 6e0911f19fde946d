// ApiVersions (API 18): ApiVersionsRequest.json, ApiVersionsResponse.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/description.h"

namespace kveil::kafka {

struct ApiVersionsRequest {
  static constexpr std::string_view kName = "ApiVersionsRequest";
  static constexpr ApiKey kApiKey = ApiKey::kApiVersions;
  static constexpr VersionRange kVersions = {0, 5};

  std::string_view clientSoftwareName;        // from version 3; what the client says of itself
  std::string_view clientSoftwareVersion;     // from version 3
  std::optional<std::string_view> clusterId;  // from version 5 (KIP-1242)
  int32_t nodeId = -1;                        // from version 5
  UnknownTaggedFields unknownTags;
};

// The response header is version 0 for every version. With UNSUPPORTED_VERSION the body is version 0: Decode and Encode
// both see to that.
struct ApiVersionsResponse {
  static constexpr std::string_view kName = "ApiVersionsResponse";
  static constexpr ApiKey kApiKey = ApiKey::kApiVersions;
  static constexpr VersionRange kVersions = {0, 5};

  struct ApiVersion {
    ApiKey apiKey{};
    int16_t minVersion = 0;
    int16_t maxVersion = 0;
    UnknownTaggedFields unknownTags;
  };
  struct SupportedFeature {
    std::string_view name;
    int16_t minVersion = 0;
    int16_t maxVersion = 0;
    UnknownTaggedFields unknownTags;

    friend bool operator==(const SupportedFeature&, const SupportedFeature&) = default;
  };
  struct FinalizedFeature {
    std::string_view name;
    int16_t maxVersionLevel = 0;
    int16_t minVersionLevel = 0;
    UnknownTaggedFields unknownTags;

    friend bool operator==(const FinalizedFeature&, const FinalizedFeature&) = default;
  };

  // A broker that does not know the asked version answers in version 0, so that any client can read it.
  static constexpr int16_t BodyVersion(ErrorCode errorCode, int16_t asked) {
    return errorCode == ErrorCode::kUnsupportedVersion ? int16_t{0} : asked;
  }

  ErrorCode errorCode = ErrorCode::kNone;
  std::vector<ApiVersion> apiKeys;
  int32_t throttleTimeMs = 0;
  std::vector<SupportedFeature> supportedFeatures;
  int64_t finalizedFeaturesEpoch = -1;
  std::vector<FinalizedFeature> finalizedFeatures;
  bool zkMigrationReady = false;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ApiVersionsRequest>& m) {
  v.Field("clientSoftwareName", m.clientSoftwareName, {.since = 3});
  v.Field("clientSoftwareVersion", m.clientSoftwareVersion, {.since = 3});
  v.Field("clusterId", m.clusterId, {.since = 5});
  v.Field("nodeId", m.nodeId, {.since = 5});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ApiVersionsResponse::ApiVersion>& m) {
  v.Field("apiKey", m.apiKey);
  v.Field("minVersion", m.minVersion);
  v.Field("maxVersion", m.maxVersion);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ApiVersionsResponse::SupportedFeature>& m) {
  v.Field("name", m.name);
  v.Field("minVersion", m.minVersion);
  v.Field("maxVersion", m.maxVersion);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ApiVersionsResponse::FinalizedFeature>& m) {
  v.Field("name", m.name);
  v.Field("maxVersionLevel", m.maxVersionLevel);
  v.Field("minVersionLevel", m.minVersionLevel);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, ApiVersionsResponse>& m) {
  v.Field("errorCode", m.errorCode);
  v.Field("apiKeys", m.apiKeys);
  v.Field("throttleTimeMs", m.throttleTimeMs, {.since = 1});
  v.Tags(m.unknownTags, Tag(0, "supportedFeatures", m.supportedFeatures, {.since = 3}),
         Tag(1, "finalizedFeaturesEpoch", m.finalizedFeaturesEpoch, {.since = 3}, -1),
         Tag(2, "finalizedFeatures", m.finalizedFeatures, {.since = 3}),
         Tag(3, "zkMigrationReady", m.zkMigrationReady, {.since = 3}));
}

}  // namespace kveil::kafka
