// How far an erasure has spread among the agents that share a registry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"

namespace kveil::admin {

struct Spread {
  struct Agent {
    std::string name = "?";
    std::optional<std::string> confirmed;    // when it was known that it has dropped the keys; RFC 3339, UTC
    std::optional<std::string> refusesFrom;  // otherwise: from when on it refuses them at the latest
    void Fields(auto& field) {
      field("name", name);
      field("confirmed", confirmed);
      field("refusesFrom", refusesFrom);
    }
  };
  bool complete = false;  // every agent has confirmed, or refuses the keys by now
  std::vector<Agent> agents;
  std::optional<std::string> error;  // why nobody knows which agents there are
  void Fields(auto& field) {
    field("complete", complete);
    field("agents", agents);
    field("error", error);
  }
};

// What became of the receipt. An agent of an earlier version writes none.
struct ReceiptNote {
  std::optional<uint64_t> number;
  std::optional<std::string> error;  // why there is none
  void Fields(auto& field) {
    field("number", number);
    field("error", error);
  }
};

}  // namespace kveil::admin
