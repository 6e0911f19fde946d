// What most tests stand on: a broker in one namespace, a pod in another, a cable between them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "intercept/kernel/listeners.h"
#include "support/node.h"
#include "support/test_agent.h"

namespace kveil::nettest {

// What the broker at broker4 says to a pod that is alone with it.
inline constexpr char kEchoed[] = "echoed by 192.0.2.1:9092 as 192.0.2.2";

class Stage : public testing::Test {
 protected:
  Stage() { Connect(brokerNode, pod.netns); }

  // An echoing broker at these addresses of the broker's namespace.
  void StartBroker(const std::vector<SocketAddress>& addresses);
  // The pod is served when this returns, because it lives already.
  void StartAgent(const intercept::RedirectOptions& options = {});
  std::string DialInPod(const SocketAddress& address, uint32_t uid = 0) const;
  // What an agent has in the pod, for a test that accepts by itself.
  intercept::Listeners ListenInPod(intercept::Redirect& redirect) const;

  const SocketAddress broker4 = Address("192.0.2.1", 9092);
  const SocketAddress broker6 = Address("2001:db8:77::1", 9092);
  Cgroup node;
  Netns brokerNode;
  Pod pod{node, "pod"};
  config::InterceptConfig config = MakeConfig(node);
  DetachAtEnd detach{config};
  std::optional<EchoBroker> broker;
  std::unique_ptr<TestAgent> agent;
};

// The events of a Redirect that nobody else reads.
std::vector<intercept::RefusedConnect> EventsOf(intercept::Redirect& redirect);

}  // namespace kveil::nettest
