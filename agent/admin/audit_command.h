// `kveil audit query`: what the agent has to say beside its trail.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"

namespace kveil::admin {

// Has the agent write what it has counted until now, and says under which pseudonyms it counts a user.
struct AuditCommand {
  static constexpr std::string_view kName = "audit";
  static constexpr Access kAccess = Access::kErase;  // whose records were read is not for everybody

  struct Request {
    std::optional<std::string> user;      // the id as records spell it
    std::optional<std::string> keyspace;  // without it, every one
    void Fields(auto& field) {
      field("user", user);
      field("keyspace", keyspace);
    }
  };
  struct Pseudonym {
    std::string keyspace;
    std::string pseudonym;  // in hexadecimal digits, as receipts have it
    void Fields(auto& field) {
      field("keyspace", keyspace);
      field("pseudonym", pseudonym);
    }
  };
  struct Response {
    std::optional<std::string> folder;    // of the trail; none: the agent keeps none
    std::optional<std::string> error;     // why what was counted could not be written now
    std::vector<Pseudonym> pseudonyms;    // of the user
    std::optional<std::string> registry;  // whose they are
    void Fields(auto& field) {
      field("folder", folder);
      field("error", error);
      field("pseudonyms", pseudonyms);
      field("registry", registry);
    }
  };
};

}  // namespace kveil::admin
