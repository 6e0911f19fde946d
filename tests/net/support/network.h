// A broker's namespace with a switch, for many pods at a time.
#pragma once

#include <cstddef>

#include "support/node.h"

namespace kveil::nettest {

// The broker's end of the network is 192.0.2.1/24 and 2001:db8:77::1/64.
class Network {
 public:
  Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  // Gives `netns` an eth0 with 192.0.2.HOST and 2001:db8:77::HOST. Host 2 to 254.
  void Join(const Netns& netns, int host) const;
  // How many namespaces that joined still exist: the kernel takes a cable away with the namespace at its other end, and
  // no sooner.
  size_t Joined() const;
  const Netns& broker() const { return broker_; }

 private:
  Netns broker_;
};

}  // namespace kveil::nettest
