// The stage.
#include "support/stage.h"

namespace kveil::nettest {

void Stage::StartBroker(const std::vector<SocketAddress>& addresses) {
  std::vector<UniqueFd> listeners;
  listeners.reserve(addresses.size());
  for (const SocketAddress& address : addresses) listeners.push_back(ListenIn(brokerNode, address));
  broker.emplace(std::move(listeners));
}

void Stage::StartAgent(const intercept::RedirectOptions& options) {
  agent = std::make_unique<TestAgent>(config, options);
  Require(agent->IsServed(pod.netns.cookie()), "a pod that lives is served at start");
}

std::string Stage::DialInPod(const SocketAddress& address, uint32_t uid) const {
  return pod.Run([&] { return Dial(address); }, uid);
}

intercept::Listeners Stage::ListenInPod(intercept::Redirect& redirect) const {
  absl::StatusOr<intercept::Listeners> listeners =
      intercept::MakeListeners(redirect.listenerPlace(), pod.netns.fd(), intercept::Families::kBoth);
  Require(listeners.ok(), std::string(listeners.status().message()));
  return *std::move(listeners);
}

std::vector<intercept::RefusedConnect> EventsOf(intercept::Redirect& redirect) {
  std::vector<intercept::RefusedConnect> events;
  const auto keep = [&events](const intercept::RefusedConnect& refused) { events.push_back(refused); };
  while (redirect.ReadEvents(keep, 1000) > 0) continue;
  return events;
}

}  // namespace kveil::nettest
