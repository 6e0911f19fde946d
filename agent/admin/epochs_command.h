// `kveil epochs`: the epoch keys, which wrap all others, and their turns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"
#include "admin/spread.h"

namespace kveil::admin {

struct ListEpochsCommand {
  static constexpr std::string_view kName = "listEpochs";
  static constexpr Access kAccess = Access::kLook;

  struct Request {
    std::optional<bool> keys;  // whether they are counted; not given: they are
    void Fields(auto& field) { field("keys", keys); }
  };
  struct Epoch {
    uint64_t number = 0;
    std::string state = "?";  // "coming", "inUse", "ending", "destroyed"
    std::string made;         // RFC 3339
    std::optional<std::string> destroyed;
    uint64_t keys = 0;  // that are not erased
    void Fields(auto& field) {
      field("number", number);
      field("state", state);
      field("made", made);
      field("destroyed", destroyed);
      field("keys", keys);
    }
  };
  struct Response {
    std::vector<Epoch> epochs;
    bool allCounted = true;  // if not, there are more keys
    std::string problem, note;
    std::vector<std::string> unreadable;  // ids of keys that stop the turn; some of them
    std::string oldCopies;  // why copies from before the last turn can still be opened; empty: they cannot
    void Fields(auto& field) {
      field("epochs", epochs);
      field("allCounted", allCounted);
      field("problem", problem);
      field("note", note);
      field("oldCopies", oldCopies);
      field("unreadable", unreadable);
    }
  };
};

struct TurnEpochsCommand {
  static constexpr std::string_view kName = "turnEpochs";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    void Fields(auto&) {}
  };
  struct Response {
    uint64_t ending = 0;               // the number of the epoch that ends
    std::optional<std::string> waits;  // why it has not begun yet
    void Fields(auto& field) {
      field("ending", ending);
      field("waits", waits);
    }
  };
};

// `kveil epochs give-up`: a key that its row does not give, and that stops a turn.
struct GiveUpKeyCommand {
  static constexpr std::string_view kName = "giveUpKey";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    std::string key;                    // its id, in hexadecimal digits
    std::optional<std::string> reason;  // as of EraseCommand
    void Fields(auto& field) {
      field("key", key);
      field("reason", reason);
    }
  };
  struct Response {
    std::string scope = "?";  // "user", "topic", "cluster": whose key it was
    ReceiptNote receipt;
    void Fields(auto& field) {
      field("scope", scope);
      field("receipt", receipt);
    }
  };
};

}  // namespace kveil::admin
