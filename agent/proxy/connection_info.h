// Who is at the two ends of a connection, as the kernel attests it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "identity/origin.h"
#include "identity/workload.h"

namespace kveil::proxy {

// What has become of a connection's records, and who its client says it is now, for whoever lists connections. Nothing
// is decided by it. Its connection and the interceptors write it, on the worker's thread.
struct ConnectionTally {
  struct Records {
    uint64_t sealed = 0;
    uint64_t opened = 0;
    uint64_t denied = 0;   // that no entry of `read` lets the reader have, left out or in another form
    uint64_t refused = 0;  // as observe::Metrics::RecordsRefused counts them
  };
  Records records;
  std::string clientId;   // of the latest request that was looked into; at most identity::kLongestClientId bytes
  std::string principal;  // that the broker has accepted, without "User:"
};

struct ConnectionInfo {
  uint64_t id = 0;      // given by the server, for the log
  std::string cluster;  // the name that the matching target gives the cluster
  identity::Origin origin;
  identity::Workload workload;
  // What the certificate says that the application has shown to the agent: its subject, and the common name in it. It
  // proves who has the key, which another workload may have, too. Empty: it has shown none.
  std::string certificateSubject;
  std::string certificateName;
  std::shared_ptr<ConnectionTally> tally = std::make_shared<ConnectionTally>();
};

}  // namespace kveil::proxy
