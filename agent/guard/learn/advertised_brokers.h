// The brokers that responses name, and responses without some of them.
#pragma once

#include <vector>

#include "guard/learn/broker_directory.h"
#include "kafka/messages/common.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/share_acknowledge.h"

namespace kveil::guard {

using AdvertisedBrokers = std::vector<BrokerDirectory::Advertised>;

// In the order of the message, with views into it.
AdvertisedBrokers BrokersOf(const kafka::MetadataResponse& response);
AdvertisedBrokers BrokersOf(const kafka::FindCoordinatorResponse& response);
AdvertisedBrokers BrokersOf(const kafka::DescribeClusterResponse& response);
AdvertisedBrokers BrokersOf(const kafka::ShareAcknowledgeResponse& response);
AdvertisedBrokers BrokersOf(const std::vector<kafka::NodeEndpoint>& endpoints);
inline AdvertisedBrokers BrokersOf(const kafka::CreateTopicsResponse&) { return {}; }
inline AdvertisedBrokers BrokersOf(const kafka::DescribeTopicPartitionsResponse&) { return {}; }

// Takes the brokers out that may not be heard of (`keep`, in the order of BrokersOf), and says of what they lead or
// coordinate what a broker says while it is not there for a moment: every client knows that and asks again.
void LeaveOut(const std::vector<bool>& keep, kafka::MetadataResponse& response);
void LeaveOut(const std::vector<bool>& keep, kafka::FindCoordinatorResponse& response);
void LeaveOut(const std::vector<bool>& keep, kafka::DescribeClusterResponse& response);
void LeaveOut(const std::vector<bool>& keep, kafka::ShareAcknowledgeResponse& response);
void LeaveOut(const std::vector<bool>& keep, std::vector<kafka::NodeEndpoint>& endpoints);
inline void LeaveOut(const std::vector<bool>&, kafka::CreateTopicsResponse&) {}
inline void LeaveOut(const std::vector<bool>&, kafka::DescribeTopicPartitionsResponse&) {}

// Learns what a response names beside the answer proper (KIP-951), and takes out what may not be heard of: the client
// then asks for metadata. Returns whether something was taken out.
io::Task<bool> LearnEndpoints(BrokerDirectory& directory, io::Loop& loop, const proxy::ConnectionInfo& connection,
                              std::vector<kafka::NodeEndpoint>& endpoints);

}  // namespace kveil::guard
