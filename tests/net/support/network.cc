// The switch and its cables.
#include "support/network.h"

#include <net/if.h>
#include <sched.h>

#include <string_view>

#include "base/text.h"

namespace kveil::nettest {

Network::Network() {
  broker_.Ip("link add br0 address 02:00:00:00:00:01 type bridge");
  broker_.Ip("addr add 192.0.2.1/24 dev br0");
  broker_.Ip("addr add 2001:db8:77::1/64 dev br0 nodad");
  broker_.Ip("link set br0 up");
}

void Network::Join(const Netns& netns, int host) const {
  const std::string cable = StrCat("cable", host);
  Shell(StrCat("printf 'link add ", cable, " master br0 up type veth peer name eth0 netns ", netns.holder(),
               "\\n' | nsenter --net=/proc/", broker_.holder(), "/ns/net ip -batch -"));
  BringUp(netns, host);
}

size_t Network::Joined() const {
  size_t count = 0;
  std::thread([&] {
    Require(::setns(broker_.fd(), CLONE_NEWNET) == 0, "the broker's namespace");
    struct if_nameindex* interfaces = ::if_nameindex();
    for (const auto* at = interfaces; at && at->if_index != 0; ++at) {
      count += std::string_view(at->if_name).starts_with("cable");
    }
    ::if_freenameindex(interfaces);
  }).join();
  return count;
}

}  // namespace kveil::nettest
