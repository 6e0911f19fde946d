// Looks brokers' names up as a connection's workload does. Only daemon/ knows which processes that workload has.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "guard/learn/broker_directory.h"
#include "intercept/namespaces/namespaces.h"
#include "names/name_resolver.h"
#include "proxy/interceptor.h"

namespace kveil::daemon {

class NameLookup {
 public:
  // `namespaces` is nullptr until the agent serves them. After that it does not change until Stop.
  explicit NameLookup(const std::atomic<intercept::Namespaces*>& namespaces);

  // For BrokerDirectory::Options.
  void LookUp(const proxy::ConnectionInfo& connection, std::vector<std::string> names,
              absl::AnyInvocable<void(guard::BrokerDirectory::Answers)> done);
  std::string ViewOf(const proxy::ConnectionInfo& connection) const;

  void Stop() { resolver_.Stop(); }
  absl::Status Health() const { return resolver_.Health(); }

 private:
  const std::atomic<intercept::Namespaces*>& namespaces_;
  names::NameResolver resolver_;
};

}  // namespace kveil::daemon
