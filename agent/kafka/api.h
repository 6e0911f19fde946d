// The Kafka APIs by number and name, and which header version goes with which message version.
// From the message definitions (common/message/*.json) inside the kafka-clients jars 3.9.2 and 4.4.0.
#pragma once

#include <cstdint>
#include <string_view>

namespace kveil::kafka {

enum class ApiKey : int16_t {
  kProduce = 0,
  kFetch = 1,
  kListOffsets = 2,
  kMetadata = 3,
  kLeaderAndIsr = 4,
  kStopReplica = 5,
  kUpdateMetadata = 6,
  kControlledShutdown = 7,
  kOffsetCommit = 8,
  kOffsetFetch = 9,
  kFindCoordinator = 10,
  kJoinGroup = 11,
  kHeartbeat = 12,
  kLeaveGroup = 13,
  kSyncGroup = 14,
  kDescribeGroups = 15,
  kListGroups = 16,
  kSaslHandshake = 17,
  kApiVersions = 18,
  kCreateTopics = 19,
  kDeleteTopics = 20,
  kDeleteRecords = 21,
  kInitProducerId = 22,
  kOffsetForLeaderEpoch = 23,
  kAddPartitionsToTxn = 24,
  kAddOffsetsToTxn = 25,
  kEndTxn = 26,
  kWriteTxnMarkers = 27,
  kTxnOffsetCommit = 28,
  kDescribeAcls = 29,
  kCreateAcls = 30,
  kDeleteAcls = 31,
  kDescribeConfigs = 32,
  kAlterConfigs = 33,
  kAlterReplicaLogDirs = 34,
  kDescribeLogDirs = 35,
  kSaslAuthenticate = 36,
  kCreatePartitions = 37,
  kCreateDelegationToken = 38,
  kRenewDelegationToken = 39,
  kExpireDelegationToken = 40,
  kDescribeDelegationToken = 41,
  kDeleteGroups = 42,
  kElectLeaders = 43,
  kIncrementalAlterConfigs = 44,
  kAlterPartitionReassignments = 45,
  kListPartitionReassignments = 46,
  kOffsetDelete = 47,
  kDescribeClientQuotas = 48,
  kAlterClientQuotas = 49,
  kDescribeUserScramCredentials = 50,
  kAlterUserScramCredentials = 51,
  kVote = 52,
  kBeginQuorumEpoch = 53,
  kEndQuorumEpoch = 54,
  kDescribeQuorum = 55,
  kAlterPartition = 56,
  kUpdateFeatures = 57,
  kEnvelope = 58,
  kFetchSnapshot = 59,
  kDescribeCluster = 60,
  kDescribeProducers = 61,
  kBrokerRegistration = 62,
  kBrokerHeartbeat = 63,
  kUnregisterBroker = 64,
  kDescribeTransactions = 65,
  kListTransactions = 66,
  kAllocateProducerIds = 67,
  kConsumerGroupHeartbeat = 68,
  kConsumerGroupDescribe = 69,
  kControllerRegistration = 70,
  kGetTelemetrySubscriptions = 71,
  kPushTelemetry = 72,
  kAssignReplicasToDirs = 73,
  kListConfigResources = 74,
  kDescribeTopicPartitions = 75,
  kShareGroupHeartbeat = 76,
  kShareGroupDescribe = 77,
  kShareFetch = 78,
  kShareAcknowledge = 79,
  kAddRaftVoter = 80,
  kRemoveRaftVoter = 81,
  kUpdateRaftVoter = 82,
  kInitializeShareGroupState = 83,
  kReadShareGroupState = 84,
  kWriteShareGroupState = 85,
  kDeleteShareGroupState = 86,
  kReadShareGroupStateSummary = 87,
  kStreamsGroupHeartbeat = 88,
  kStreamsGroupDescribe = 89,
  kDescribeShareGroupOffsets = 90,
  kAlterShareGroupOffsets = 91,
  kDeleteShareGroupOffsets = 92,
  kStreamsGroupTopologyDescriptionUpdate = 93,
  kUnregisterController = 94,
};

// The versions of one message, both ends included.
struct VersionRange {
  int16_t min = 0;
  int16_t max = 0;

  constexpr bool Contains(int16_t version) const { return version >= min && version <= max; }
  friend constexpr bool operator==(const VersionRange&, const VersionRange&) = default;
};

// Whether this build knows the API (every API of Kafka 4.4 and those that 4.0 removed).
bool IsKnown(ApiKey api);
// "Produce", "Fetch", ...; "unknown" for an API that this build does not know.
std::string_view ApiName(ApiKey api);
// The newest version that Kafka 4.4 has of this API (an API that 4.0 removed: that Kafka 3.9 had); -1 when unknown.
int16_t LatestVersion(ApiKey api);

// Whether Kafka up to 4.4 has this version, and so this build knows what it may carry.
bool IsKnown(ApiKey api, int16_t version);

// Whether this version has compact lengths and tag sections (KIP-482). False for an unknown API.
bool IsFlexible(ApiKey api, int16_t version);
// 1 or 2 (0: ControlledShutdown version 0, which has no client id); -1 for an unknown API.
int RequestHeaderVersion(ApiKey api, int16_t version);
// 0 or 1; ApiVersions stays at 0 for ever (KIP-511). -1 for an unknown API.
int ResponseHeaderVersion(ApiKey api, int16_t version);

}  // namespace kveil::kafka
