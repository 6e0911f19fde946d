// `kveil erase`: destroys the keys of one user.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"
#include "admin/spread.h"

namespace kveil::admin {

struct EraseCommand {
  static constexpr std::string_view kName = "erase";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    std::string user;                     // the id as records spell it
    std::optional<std::string> keyspace;  // without it, in every keyspace
    // How long to wait for the other agents. Without it, until each has confirmed or refuses the keys.
    std::optional<uint64_t> waitSeconds;
    std::optional<std::string> reason;  // for the receipt: 1 to 500 bytes, without control characters
    void Fields(auto& field) {
      field("user", user);
      field("keyspace", keyspace);
      field("reason", reason);
      field("waitSeconds", waitSeconds);
    }
  };

  struct Erased {
    std::vector<std::string> keyspaces;  // in which the user had a key, or was known
    uint64_t keys = 0;
    std::string time = "?";                   // RFC 3339, UTC
    std::optional<std::string> erasedBefore;  // the first time, when no key was left
    bool filesClean = true;                   // whether the wrapped keys have left the registry's files already
    void Fields(auto& field) {
      field("keyspaces", keyspaces);
      field("keys", keys);
      field("time", time);
      field("erasedBefore", erasedBefore);
      field("filesClean", filesClean);
    }
  };
  struct Response {
    Erased erased;
    std::optional<Spread> spread;  // an agent of an earlier version does not say
    // How often the registry was asked again, as it was opened anew during the wait, and how many keys it had to
    // destroy again.
    uint64_t askedAgain = 0, keysAgain = 0;
    ReceiptNote receipt;       // of the erasure, written before the wait
    ReceiptNote confirmation;  // of what the agents have said
    void Fields(auto& field) {
      field("erased", erased);
      field("spread", spread);
      field("askedAgain", askedAgain);
      field("keysAgain", keysAgain);
      field("receipt", receipt);
      field("confirmation", confirmation);
    }
  };
};

}  // namespace kveil::admin
