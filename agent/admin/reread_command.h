// `kveil consent reread`: has a topic that consents come from read from its beginning.
#pragma once

#include <string>
#include <string_view>

#include "admin/command.h"

namespace kveil::admin {

struct RereadCommand {
  static constexpr std::string_view kName = "rereadConsents";
  static constexpr Access kAccess = Access::kErase;  // who may change consents

  struct Request {
    std::string keyspace;
    void Fields(auto& field) { field("keyspace", keyspace); }
  };
  struct Response {
    std::string follower;     // the agent that follows, or was the last one that did
    bool isFollowed = false;  // it has read the topic to its end a moment ago
    void Fields(auto& field) {
      field("follower", follower);
      field("followed", isFollowed);
    }
  };
};

}  // namespace kveil::admin
