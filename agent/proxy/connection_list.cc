#include "proxy/connection_list.h"

#include <iterator>

namespace kveil::proxy {

void ConnectionListing::Add(ConnectionList part) {
  const MutexLock lock(mutex_);
  list_.total += part.total;
  list_.fitting += part.fitting;
  std::move(part.connections.begin(), part.connections.end(), std::back_inserter(list_.connections));
  --missing_;
  changed_.notify_all();
}

ConnectionList ConnectionListing::Await(std::chrono::steady_clock::time_point deadline) {
  ConnectionList list;
  {
    const MutexLock lock(mutex_);
    while (missing_ > 0 && std::chrono::steady_clock::now() < deadline) changed_.wait_until(mutex_, deadline);
    list = std::move(list_);
    list_ = ConnectionList();
    list.silentWorkers = missing_;
  }
  KeepBusiest(list.connections, query_.most,
              [this](const ConnectionReport& report) { return report.traffic(query_.recently); });
  return list;
}

}  // namespace kveil::proxy
