// FindCoordinator (API 10): FindCoordinatorResponse.json. Read for the brokers that it names.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/description.h"

namespace kveil::kafka {

struct FindCoordinatorResponse {
  static constexpr std::string_view kName = "FindCoordinatorResponse";
  static constexpr ApiKey kApiKey = ApiKey::kFindCoordinator;
  static constexpr VersionRange kVersions = {0, 6};

  struct Coordinator {
    std::string_view key;
    int32_t nodeId = 0;
    std::string_view host;
    int32_t port = 0;
    ErrorCode errorCode = ErrorCode::kNone;
    std::optional<std::string_view> errorMessage;
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  // One coordinator, until version 3.
  ErrorCode errorCode = ErrorCode::kNone;
  std::optional<std::string_view> errorMessage;
  int32_t nodeId = 0;
  std::string_view host;
  int32_t port = 0;
  // Several, from version 4.
  std::vector<Coordinator> coordinators;
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FindCoordinatorResponse::Coordinator>& m) {
  v.Field("key", m.key);
  v.Field("nodeId", m.nodeId);
  v.Field("host", m.host);
  v.Field("port", m.port);
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, FindCoordinatorResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs, {.since = 1});
  v.Field("errorCode", m.errorCode, {.until = 3});
  v.Field("errorMessage", m.errorMessage, {.since = 1, .until = 3});
  v.Field("nodeId", m.nodeId, {.until = 3});
  v.Field("host", m.host, {.until = 3});
  v.Field("port", m.port, {.until = 3});
  v.Field("coordinators", m.coordinators, {.since = 4});
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
