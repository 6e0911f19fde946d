#include "guard/learn/advertised_brokers.h"

#include <utility>

#include "absl/container/flat_hash_set.h"

namespace kveil::guard {
namespace {

constexpr int32_t kNoNode = -1;
constexpr int32_t kNoPort = -1;

template <class Brokers>
AdvertisedBrokers Advertised(const Brokers& brokers) {
  AdvertisedBrokers advertised;
  advertised.reserve(brokers.size());
  for (const auto& broker : brokers) advertised.push_back({broker.host, broker.port});
  return advertised;
}

template <class Brokers>
void Keep(const std::vector<bool>& keep, Brokers& brokers) {
  Brokers kept;
  for (size_t i = 0; i < brokers.size(); ++i) {
    if (keep[i]) kept.push_back(std::move(brokers[i]));
  }
  brokers = std::move(kept);
}

// As a broker answers for one that is not there now.
template <class Coordinator>
void HaveNone(Coordinator& coordinator) {
  coordinator.errorCode = kafka::ErrorCode::kCoordinatorNotAvailable;
  coordinator.nodeId = kNoNode;
  coordinator.host = "";
  coordinator.port = kNoPort;
}

}  // namespace

AdvertisedBrokers BrokersOf(const kafka::MetadataResponse& response) { return Advertised(response.brokers); }
AdvertisedBrokers BrokersOf(const kafka::DescribeClusterResponse& response) { return Advertised(response.brokers); }
AdvertisedBrokers BrokersOf(const std::vector<kafka::NodeEndpoint>& endpoints) { return Advertised(endpoints); }
AdvertisedBrokers BrokersOf(const kafka::FindCoordinatorResponse& response) {
  AdvertisedBrokers brokers = {{response.host, response.port}};
  for (const auto& coordinator : response.coordinators) brokers.push_back({coordinator.host, coordinator.port});
  return brokers;
}

void LeaveOut(const std::vector<bool>& keep, kafka::MetadataResponse& response) {
  Keep(keep, response.brokers);
  absl::flat_hash_set<int32_t> there = {kNoNode};  // those that are gone may be millions
  for (const kafka::MetadataResponse::Broker& broker : response.brokers) there.insert(broker.nodeId);
  if (!there.contains(response.controllerId)) response.controllerId = kNoNode;
  for (kafka::MetadataResponse::Topic& topic : response.topics) {
    for (kafka::MetadataResponse::Partition& partition : topic.partitions) {
      if (there.contains(partition.leaderId)) continue;
      partition.errorCode = kafka::ErrorCode::kLeaderNotAvailable;
      partition.leaderId = kNoNode;
    }
  }
}

void LeaveOut(const std::vector<bool>& keep, kafka::FindCoordinatorResponse& response) {
  if (!keep.front()) HaveNone(response);
  for (size_t i = 0; i < response.coordinators.size(); ++i) {
    if (!keep[i + 1]) HaveNone(response.coordinators[i]);
  }
}

void LeaveOut(const std::vector<bool>& keep, kafka::DescribeClusterResponse& response) { Keep(keep, response.brokers); }
void LeaveOut(const std::vector<bool>& keep, std::vector<kafka::NodeEndpoint>& endpoints) { Keep(keep, endpoints); }

}  // namespace kveil::guard
