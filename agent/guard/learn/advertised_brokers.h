// The brokers that responses name. Each becomes a target before the client hears of it (broker_directory.h); one that
// cannot is taken out of the response.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "guard/learn/broker_directory.h"
#include "io/loop.h"
#include "io/task.h"
#include "kafka/messages/common.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

using AdvertisedBrokers = std::vector<BrokerDirectory::Advertised>;

// Each kind of response has two functions: BrokersOf returns the brokers that it names, in the order of the message and
// with views into it. LeaveOut takes out those that the client may not hear of (`keep` has the same order). Of what
// they lead or coordinate it then says what a broker says while they are away for a moment: every client knows that and
// asks again.
AdvertisedBrokers BrokersOf(const kafka::MetadataResponse& response);
void LeaveOut(const std::vector<bool>& keep, kafka::MetadataResponse& response);
AdvertisedBrokers BrokersOf(const kafka::FindCoordinatorResponse& response);
void LeaveOut(const std::vector<bool>& keep, kafka::FindCoordinatorResponse& response);
AdvertisedBrokers BrokersOf(const kafka::DescribeClusterResponse& response);
void LeaveOut(const std::vector<bool>& keep, kafka::DescribeClusterResponse& response);
AdvertisedBrokers BrokersOf(const std::vector<kafka::NodeEndpoint>& endpoints);
void LeaveOut(const std::vector<bool>& keep, std::vector<kafka::NodeEndpoint>& endpoints);

// A response that names new leaders beside the answer proper (KIP-951). Without them, clients ask for metadata.
template <class Response>
concept HasNodeEndpoints = requires(Response& response) {
  response.nodeEndpoints;
};
template <HasNodeEndpoints Response>
AdvertisedBrokers BrokersOf(const Response& response) {
  return BrokersOf(response.nodeEndpoints);
}
template <HasNodeEndpoints Response>
void LeaveOut(const std::vector<bool>& keep, Response& response) {
  LeaveOut(keep, response.nodeEndpoints);
}

template <class Response>
concept NamesBrokers = requires(Response& response) {
  BrokersOf(response);
};

// Learns the brokers that a response names and takes out those that the client may not hear of. Returns whether that
// changed the response. Suspends while names are looked up.
template <NamesBrokers Response>
io::Task<bool> LearnBrokers(BrokerDirectory& directory, io::Loop& loop, const proxy::ConnectionInfo& connection,
                            Response& response) {
  AdvertisedBrokers brokers = BrokersOf(response);
  if (brokers.empty()) co_return false;
  auto learning = directory.Learn(loop, connection, std::move(brokers));
  const std::vector<bool> keep = co_await std::move(learning);
  if (std::find(keep.begin(), keep.end(), false) == keep.end()) co_return false;
  LeaveOut(keep, response);
  co_return true;
}

}  // namespace kveil::guard
