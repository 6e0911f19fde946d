// `kveil erase --users-from`: destroys the keys of many users, one piece of the list after the other, and then waits
// for the other agents once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"
#include "admin/spread.h"

namespace kveil::admin {

struct EraseManyCommand {
  static constexpr std::string_view kName = "eraseMany";
  static constexpr Access kAccess = Access::kErase;
  static constexpr size_t kMostUsers = 256;

  struct Request {
    std::vector<std::string> users;       // at most kMostUsers ids, as records spell them
    std::optional<std::string> keyspace;  // without it, in every keyspace
    std::optional<std::string> reason;    // as of EraseCommand
    void Fields(auto& field) {
      field("users", users);
      field("keyspace", keyspace);
      field("reason", reason);
    }
  };

  static constexpr std::string_view kErased = "erased";
  static constexpr std::string_view kErasedBefore = "erasedBefore";
  static constexpr std::string_view kNoKey = "noKey";
  struct Response {
    std::vector<std::string> outcomes;  // of each user: one of the three
    uint64_t keys = 0;                  // that were destroyed
    uint64_t number = 0;                // of the last of these erasures, for AwaitErasureCommand
    std::string time = "?";             // RFC 3339, UTC
    bool filesClean = true;             // as of EraseCommand
    ReceiptNote receipt;                // empty when nobody was erased, now or before
    // Of the registry: when that of AwaitErasureCommand is another, the registry was opened anew in between, and may
    // have lost the erasures. An agent of an earlier version does not say.
    std::optional<std::string> opening;
    void Fields(auto& field) {
      field("outcomes", outcomes);
      field("keys", keys);
      field("number", number);
      field("time", time);
      field("filesClean", filesClean);
      field("receipt", receipt);
      field("opening", opening);
    }
  };
};

// Waits until all agents have dropped the keys of all erasures up to one.
struct AwaitErasureCommand {
  static constexpr std::string_view kName = "awaitErasure";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    uint64_t number = 0;
    std::optional<uint64_t> waitSeconds;  // as of EraseCommand
    std::optional<std::string> reason;    // as of EraseCommand
    void Fields(auto& field) {
      field("number", number);
      field("waitSeconds", waitSeconds);
      field("reason", reason);
    }
  };
  struct Response {
    Spread spread;
    ReceiptNote receipt;
    std::optional<std::string> opening;  // as of EraseManyCommand; none either when it is not known
    void Fields(auto& field) {
      field("spread", spread);
      field("receipt", receipt);
      field("opening", opening);
    }
  };
};

}  // namespace kveil::admin
