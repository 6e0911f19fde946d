// `kveil keys`: which keys the registry has, never what they are, and wrapping them anew.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"

namespace kveil::admin {

struct ListKeysCommand {
  static constexpr std::string_view kName = "listKeys";
  static constexpr Access kAccess = Access::kErase;  // pseudonyms of persons, and who was erased when
  static constexpr size_t kMost = 200;

  struct Request {
    std::string from;   // the first id, or how it begins, in hexadecimal digits; empty: of all
    uint64_t most = 0;  // 1 to kMost
    void Fields(auto& field) {
      field("from", from);
      field("most", most);
    }
  };
  struct Key {
    std::string id;
    std::string scope = "?";            // "user", "topic", "cluster"
    std::string pseudonym;              // what the registry calls the user, topic or cluster
    std::optional<uint64_t> window;     // of a topic or cluster: which of its keys it is
    uint64_t epoch = 0;                 // that it is wrapped by, or was
    std::string made;                   // RFC 3339
    std::optional<std::string> erased;  // when
    void Fields(auto& field) {
      field("id", id);
      field("scope", scope);
      field("pseudonym", pseudonym);
      field("window", window);
      field("epoch", epoch);
      field("made", made);
      field("erased", erased);
    }
  };
  struct Response {
    std::vector<Key> keys;            // in the order of their ids
    std::optional<std::string> next;  // the id that the next page begins with; none: there are no more
    void Fields(auto& field) {
      field("keys", keys);
      field("next", next);
    }
  };
};

// `kveil keys rotate`: what the root key has wrapped is wrapped anew, by its newest version.
struct RotateRootKeyCommand {
  static constexpr std::string_view kName = "rotateRootKey";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    std::optional<std::string> reason;  // as of EraseCommand
    void Fields(auto& field) { field("reason", reason); }
  };
  struct Response {
    std::string rootKey;                // its name
    uint64_t keys = 0;                  // that were wrapped: the registry's secret, and a key for each epoch
    std::vector<std::string> versions;  // of the root key that wraps them; none: it does not tell
    bool isTurning = false;             // the epochs are
    void Fields(auto& field) {
      field("rootKey", rootKey);
      field("keys", keys);
      field("versions", versions);
      field("isTurning", isTurning);
    }
  };
};

// `kveil keys rotate --kek`: the same for what KEKs have wrapped, page by page.
struct RotateKeksCommand {
  static constexpr std::string_view kName = "rotateKeks";
  static constexpr Access kAccess = Access::kErase;

  struct Request {
    std::string kek;    // "PROVIDER/KEY", or "PROVIDER" for all of its keys
    std::string after;  // `next` of the page before; empty: the first page
    std::optional<std::string> reason;
    void Fields(auto& field) {
      field("kek", kek);
      field("after", after);
      field("reason", reason);
    }
  };
  struct Key {
    std::string kek;
    uint64_t window = 0;                 // of 30 days, which each KEK counts from a moment of its own
    std::optional<std::string> version;  // of the KEK that wraps it now; none: its provider does not tell
    std::optional<std::string> error;    // why it was not wrapped anew
    void Fields(auto& field) {
      field("kek", kek);
      field("window", window);
      field("version", version);
      field("error", error);
    }
  };
  struct Response {
    std::vector<Key> keys;
    std::optional<std::string> next;  // where the next page begins; none: there are no more
    void Fields(auto& field) {
      field("keys", keys);
      field("next", next);
    }
  };
};

}  // namespace kveil::admin
