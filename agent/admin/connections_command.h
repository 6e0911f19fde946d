// `kveil connections` and `kveil top`: the connections that the agent serves now.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/command.h"

namespace kveil::admin {

struct ConnectionsCommand {
  static constexpr std::string_view kName = "connections";
  static constexpr Access kAccess = Access::kLook;
  static constexpr uint64_t kMost = 4000;  // connections of one answer

  struct Request {
    std::optional<std::string> workload;  // a part of its name, or of the cgroup that it cannot leave
    std::optional<std::string> cluster;
    uint64_t most = 1000;   // of those with the most traffic; 1 to kMost
    bool recently = false;  // traffic of about the last two seconds, not of all time
    void Fields(auto& field) {
      field("workload", workload);
      field("cluster", cluster);
      field("most", most);
      field("recently", recently);
    }
  };
  // The response is a contract with scripts: docs/operations.md says what each field means. Texts of the client may be
  // anything, and all texts are cut off at 256 bytes.
  struct Connection {
    uint64_t id = 0;
    std::string workload, share;
    uint64_t uid = 0;
    std::string cluster, broker, client, clientTls;
    std::optional<std::string> clientId, principal, certificate;
    uint64_t ageMilliseconds = 0;
    uint64_t requestBytes = 0, responseBytes = 0;
    uint64_t sealed = 0, opened = 0, denied = 0, refused = 0;
    void Fields(auto& field) {
      field("id", id);
      field("workload", workload);
      field("share", share);
      field("uid", uid);
      field("cluster", cluster);
      field("broker", broker);
      field("client", client);
      field("clientTls", clientTls);
      field("clientId", clientId);
      field("principal", principal);
      field("certificate", certificate);
      field("ageMilliseconds", ageMilliseconds);
      field("requestBytes", requestBytes);
      field("responseBytes", responseBytes);
      field("sealed", sealed);
      field("opened", opened);
      field("denied", denied);
      field("refused", refused);
    }
  };
  struct Response {
    std::vector<Connection> connections;  // those with the most traffic first
    uint64_t total = 0;
    uint64_t fitting = 0;        // of them; there may be more than are listed
    uint64_t silentWorkers = 0;  // worker threads that did not answer in time: theirs are missing
    void Fields(auto& field) {
      field("connections", connections);
      field("total", total);
      field("fitting", fitting);
      field("silentWorkers", silentWorkers);
    }
  };
};

}  // namespace kveil::admin
