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
    void Fields(auto&) {}
  };
};

}  // namespace kveil::admin
