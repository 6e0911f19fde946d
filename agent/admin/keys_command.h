// `kveil keys list` and `kveil keys show`: which keys the registry has. Never what they are.
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

}  // namespace kveil::admin
