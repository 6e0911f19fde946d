#include "daemon/name_lookup.h"

#include <unistd.h>

#include <utility>

#include "base/text.h"
#include "names/workload_files.h"

namespace kveil::daemon {

NameLookup::NameLookup(const std::atomic<intercept::Namespaces*>& namespaces)
    : namespaces_(namespaces), resolver_([this] {
        names::NameResolver::Options options;
        options.makeSocket = [this](uint64_t netnsCookie, int family, int type,
                                    int protocol) -> absl::StatusOr<UniqueFd> {
          intercept::Namespaces* const served = namespaces_.load(std::memory_order_acquire);
          if (served == nullptr) return absl::UnavailableError("the agent is still starting");
          return served->SocketIn(netnsCookie, family, type, protocol);
        };
        return options;
      }()) {}

void NameLookup::LookUp(const proxy::ConnectionInfo& connection, std::vector<std::string> names,
                        absl::AnyInvocable<void(guard::BrokerDirectory::Answers)> done) {
  intercept::Namespaces* const served = namespaces_.load(std::memory_order_acquire);
  names::NameResolver::Place place;
  place.netnsCookie = connection.origin.netnsCookie;
  const identity::Workload& workload = connection.workload;
  place.workload = workload.share;
  if (workload.pid != 0) place.processes.push_back(static_cast<pid_t>(workload.pid));
  if (served != nullptr) {
    const std::optional<intercept::Namespaces::NamespaceStatus> status =
        served->StatusOf(connection.origin.netnsCookie);
    if (status.has_value()) {
      place.netnsInode = status->inode;
      place.isOwn = status->isOwn;
      // The one that connected may have ended since; another one there sees the same in nearly all cases.
      place.processes.push_back(place.isOwn ? ::getpid() : static_cast<pid_t>(status->process));
    }
  }
  resolver_.LookUp(std::move(place), std::move(names), std::move(done));
}

std::string NameLookup::ViewOf(const proxy::ConnectionInfo& connection) const {
  return StrCat(connection.origin.netnsCookie, " ", names::ViewOf(static_cast<pid_t>(connection.workload.pid)));
}

}  // namespace kveil::daemon
