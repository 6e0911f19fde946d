// `kveil receipts replay`: repeats erasures that receipts tell of, where the registry does not know of them any more.
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

struct EraseAgainCommand {
  static constexpr std::string_view kName = "eraseAgain";
  static constexpr Access kAccess = Access::kErase;
  static constexpr size_t kMostUsers = 256;

  struct Request {
    // That the receipts are of: its id, in hexadecimal digits. Whoever only asks which one the agent uses has a dry run
    // of nobody.
    std::string registry;
    std::string keyspace;
    std::vector<std::string> pseudonyms;  // at most kMostUsers, of users in the keyspace
    std::vector<uint64_t> erasures;       // of each the number of the erasure, as the receipt has it
    bool isDryRun = false;                // only look
    std::optional<std::string> reason;    // as of EraseCommand
    void Fields(auto& field) {
      field("registry", registry);
      field("keyspace", keyspace);
      field("pseudonyms", pseudonyms);
      field("erasures", erasures);
      field("isDryRun", isDryRun);
      field("reason", reason);
    }
  };
  struct Response {
    std::string registry;  // the agent's
    uint64_t missing = 0;  // users whose erasure the registry did not know of
    uint64_t keys = 0;     // that were destroyed
    // Users without a key whose erasures are not remembered, as the registry remembers so many of these already.
    uint64_t refused = 0;
    uint64_t number = 0;     // of the last of these erasures, for AwaitErasureCommand
    bool filesClean = true;  // as of EraseCommand
    ReceiptNote receipt;     // empty when nobody was erased
    std::string opening;     // as of EraseManyCommand
    void Fields(auto& field) {
      field("registry", registry);
      field("missing", missing);
      field("keys", keys);
      field("refused", refused);
      field("number", number);
      field("filesClean", filesClean);
      field("receipt", receipt);
      field("opening", opening);
    }
  };
};

}  // namespace kveil::admin
