// Who is at the two ends of a connection, as the kernel attests it.
#pragma once

#include <cstdint>
#include <string>

#include "identity/origin.h"
#include "identity/workload.h"

namespace kveil::proxy {

struct ConnectionInfo {
  uint64_t id = 0;      // given by the server, for the log
  std::string cluster;  // the name that the matching target gives the cluster
  identity::Origin origin;
  identity::Workload workload;
  // What the certificate says that the application has shown to the agent: its subject, and the common name in it. It
  // proves who has the key, which another workload may have, too. Empty: it has shown none.
  std::string certificateSubject;
  std::string certificateName;
};

}  // namespace kveil::proxy
