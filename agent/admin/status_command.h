// `kveil status`: what the agent serves, and what is wrong with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"

namespace kveil::admin {

// The response is a contract with scripts: docs/operations.md says what each field means.
struct StatusCommand {
  static constexpr std::string_view kName = "status";
  static constexpr Access kAccess = Access::kLook;

  struct Request {
    void Fields(auto&) {}
  };

  struct HeldConnects {  // first connects in new network namespaces
    uint64_t held = 0, released = 0, ended = 0;
    void Fields(auto& field) {
      field("held", held);
      field("released", released);
      field("ended", ended);
    }
  };
  struct Policies {
    uint64_t files = 0, topics = 0, generation = 0;
    uint64_t version = 0;                  // that is signed; 0: they are not
    std::string digest;                    // of the files; the same on all nodes that have the same
    std::string error;                     // of the last reload
    std::optional<std::string> confirmed;  // RFC 3339: when the server last said that these are what it has
    void Fields(auto& field) {
      field("files", files);
      field("topics", topics);
      field("generation", generation);
      field("version", version);
      field("digest", digest);
      field("error", error);
      field("confirmed", confirmed);
    }
  };
  struct Condition {
    std::string name = "?", message;
    void Fields(auto& field) {
      field("name", name);
      field("message", message);
    }
  };
  struct UnselectedTopic {
    std::string topic = "?", workload = "?";
    void Fields(auto& field) {
      field("topic", topic);
      field("workload", workload);
    }
  };
  struct Unselected {  // topics that no policy selects, written to by workloads that have read protected ones
    std::vector<UnselectedTopic> topics;
    bool more = false;
    void Fields(auto& field) {
      field("topics", topics);
      field("more", more);
    }
  };
  struct Records {
    uint64_t sealed = 0, opened = 0, dropped = 0, refused = 0;
    void Fields(auto& field) {
      field("sealed", sealed);
      field("opened", opened);
      field("dropped", dropped);
      field("refused", refused);
    }
  };

  struct Response {
    bool ready = false;
    std::string version = "?";
    uint64_t uptimeSeconds = 0;
    uint64_t namespaces = 0;
    uint64_t connections = 0;
    HeldConnects heldConnects;
    Policies policies;
    std::vector<Condition> problems;
    std::vector<Condition> notes;
    Unselected unselected;
    std::string kernel = "?";
    Records records;
    void Fields(auto& field) {
      field("ready", ready);
      field("version", version);
      field("uptimeSeconds", uptimeSeconds);
      field("namespaces", namespaces);
      field("connections", connections);
      field("heldConnects", heldConnects);
      field("policies", policies);
      field("problems", problems);
      field("notes", notes);
      field("unselected", unselected);
      field("kernel", kernel);
      field("records", records);
    }
  };
};

}  // namespace kveil::admin
