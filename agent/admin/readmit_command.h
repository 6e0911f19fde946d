// `kveil readmit`: ends the erasure of one user.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"
#include "admin/spread.h"

namespace kveil::admin {

struct ReadmitCommand {
  static constexpr std::string_view kName = "readmit";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    std::string user;                     // the id as records spell it
    std::optional<std::string> keyspace;  // without it, in every keyspace
    std::optional<std::string> reason;    // for the receipt: 1 to 500 bytes, without control characters
    void Fields(auto& field) {
      field("user", user);
      field("keyspace", keyspace);
      field("reason", reason);
    }
  };
  struct Keyspace {
    std::string name;
    std::string erased = "?";  // when the user was erased there; RFC 3339, UTC
    void Fields(auto& field) {
      field("name", name);
      field("erased", erased);
    }
  };
  struct Response {
    std::vector<Keyspace> keyspaces;    // in which the user is readmitted
    std::vector<std::string> underWay;  // in which not, as the erasure has yet to reach an agent
    std::string from = "?";             // when every agent seals the user's records under a new key at the latest
    ReceiptNote receipt;
    void Fields(auto& field) {
      field("keyspaces", keyspaces);
      field("underWay", underWay);
      field("from", from);
      field("receipt", receipt);
    }
  };
};

}  // namespace kveil::admin
