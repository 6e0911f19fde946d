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
};

}  // namespace kveil::proxy
