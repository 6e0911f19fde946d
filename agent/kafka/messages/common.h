// Structs that Produce and Fetch responses share.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kafka/messages/description.h"

namespace kveil::kafka {

// The leader that the broker knows better than the client (KIP-951).
struct LeaderIdAndEpoch {
  int32_t leaderId = -1;
  int32_t leaderEpoch = -1;
  UnknownTaggedFields unknownTags;

  friend bool operator==(const LeaderIdAndEpoch&, const LeaderIdAndEpoch&) = default;
};

// Where that leader listens.
struct NodeEndpoint {
  int32_t nodeId = 0;
  std::string_view host;
  int32_t port = 0;
  std::optional<std::string_view> rack;
  UnknownTaggedFields unknownTags;

  friend bool operator==(const NodeEndpoint&, const NodeEndpoint&) = default;
};

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, LeaderIdAndEpoch>& m) {
  v.Field("leaderId", m.leaderId);
  v.Field("leaderEpoch", m.leaderEpoch);
  v.Tags(m.unknownTags);
}

template <class Visitor>
void Describe(Visitor& v, Described<Visitor, NodeEndpoint>& m) {
  v.Field("nodeId", m.nodeId);
  v.Field("host", m.host);
  v.Field("port", m.port);
  v.Field("rack", m.rack);
  v.Tags(m.unknownTags);
}

}  // namespace kveil::kafka
