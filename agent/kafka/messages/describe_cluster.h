// DescribeCluster (API 60): DescribeClusterResponse.json. Read for the brokers that it names.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"
#include "kafka/messages/description.h"

namespace kveil::kafka {

struct DescribeClusterResponse {
  static constexpr std::string_view kName = "DescribeClusterResponse";
  static constexpr ApiKey kApiKey = ApiKey::kDescribeCluster;
  static constexpr VersionRange kVersions = {0, 2};

  struct Broker {
    int32_t brokerId = 0;
    std::string_view host;
    int32_t port = 0;
    std::optional<std::string_view> rack;
    bool isFenced = false;  // from version 2
    UnknownTaggedFields unknownTags;
  };

  int32_t throttleTimeMs = 0;
  ErrorCode errorCode = ErrorCode::kNone;
  std::optional<std::string_view> errorMessage;
  int8_t endpointType = 1;  // from version 1: 1 brokers, 2 controllers
  std::string_view clusterId;
  int32_t controllerId = -1;
  std::vector<Broker> brokers;
  int32_t clusterAuthorizedOperations = std::numeric_limits<int32_t>::min();
  UnknownTaggedFields unknownTags;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeClusterResponse::Broker>& m) {
  v.Field("brokerId", m.brokerId);
  v.Field("host", m.host);
  v.Field("port", m.port);
  v.Field("rack", m.rack);
  v.Field("isFenced", m.isFenced, {.since = 2});
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, DescribeClusterResponse>& m) {
  v.Field("throttleTimeMs", m.throttleTimeMs);
  v.Field("errorCode", m.errorCode);
  v.Field("errorMessage", m.errorMessage);
  v.Field("endpointType", m.endpointType, {.since = 1});
  v.Field("clusterId", m.clusterId);
  v.Field("controllerId", m.controllerId);
  v.Field("brokers", m.brokers);
  v.Field("clusterAuthorizedOperations", m.clusterAuthorizedOperations);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
