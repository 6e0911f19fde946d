// The table of APIs behind api.h.
#include "kafka/api.h"

#include <array>
#include <cstddef>
#include <limits>

namespace kveil::kafka {
namespace {

constexpr int16_t kNever = std::numeric_limits<int16_t>::max();

struct Api {
  std::string_view name;
  int16_t latestVersion;
  int16_t flexibleSince;
};

// Indexed by API key; the keys are contiguous.
constexpr auto kApis = std::to_array<Api>({
    {"Produce", 13, 9},
    {"Fetch", 18, 12},
    {"ListOffsets", 11, 6},
    {"Metadata", 13, 9},
    {"LeaderAndIsr", 7, 4},
    {"StopReplica", 4, 2},
    {"UpdateMetadata", 8, 6},
    {"ControlledShutdown", 3, 3},
    {"OffsetCommit", 10, 8},
    {"OffsetFetch", 10, 6},
    {"FindCoordinator", 6, 3},
    {"JoinGroup", 9, 6},
    {"Heartbeat", 4, 4},
    {"LeaveGroup", 5, 4},
    {"SyncGroup", 5, 4},
    {"DescribeGroups", 6, 5},
    {"ListGroups", 5, 3},
    {"SaslHandshake", 1, kNever},
    {"ApiVersions", 5, 3},
    {"CreateTopics", 7, 5},
    {"DeleteTopics", 6, 4},
    {"DeleteRecords", 2, 2},
    {"InitProducerId", 6, 2},
    {"OffsetForLeaderEpoch", 4, 4},
    {"AddPartitionsToTxn", 5, 3},
    {"AddOffsetsToTxn", 4, 3},
    {"EndTxn", 5, 3},
    {"WriteTxnMarkers", 2, 1},
    {"TxnOffsetCommit", 6, 3},
    {"DescribeAcls", 3, 2},
    {"CreateAcls", 3, 2},
    {"DeleteAcls", 3, 2},
    {"DescribeConfigs", 4, 4},
    {"AlterConfigs", 2, 2},
    {"AlterReplicaLogDirs", 2, 2},
    {"DescribeLogDirs", 5, 2},
    {"SaslAuthenticate", 2, 2},
    {"CreatePartitions", 3, 2},
    {"CreateDelegationToken", 3, 2},
    {"RenewDelegationToken", 2, 2},
    {"ExpireDelegationToken", 2, 2},
    {"DescribeDelegationToken", 3, 2},
    {"DeleteGroups", 3, 2},
    {"ElectLeaders", 2, 2},
    {"IncrementalAlterConfigs", 1, 1},
    {"AlterPartitionReassignments", 1, 0},
    {"ListPartitionReassignments", 0, 0},
    {"OffsetDelete", 0, kNever},
    {"DescribeClientQuotas", 1, 1},
    {"AlterClientQuotas", 1, 1},
    {"DescribeUserScramCredentials", 0, 0},
    {"AlterUserScramCredentials", 0, 0},
    {"Vote", 2, 0},
    {"BeginQuorumEpoch", 1, 1},
    {"EndQuorumEpoch", 1, 1},
    {"DescribeQuorum", 2, 0},
    {"AlterPartition", 3, 0},
    {"UpdateFeatures", 2, 0},
    {"Envelope", 0, 0},
    {"FetchSnapshot", 1, 0},
    {"DescribeCluster", 2, 0},
    {"DescribeProducers", 0, 0},
    {"BrokerRegistration", 4, 0},
    {"BrokerHeartbeat", 2, 0},
    {"UnregisterBroker", 0, 0},
    {"DescribeTransactions", 0, 0},
    {"ListTransactions", 2, 0},
    {"AllocateProducerIds", 0, 0},
    {"ConsumerGroupHeartbeat", 1, 0},
    {"ConsumerGroupDescribe", 1, 0},
    {"ControllerRegistration", 0, 0},
    {"GetTelemetrySubscriptions", 0, 0},
    {"PushTelemetry", 0, 0},
    {"AssignReplicasToDirs", 0, 0},
    {"ListConfigResources", 1, 0},
    {"DescribeTopicPartitions", 0, 0},
    {"ShareGroupHeartbeat", 1, 0},
    {"ShareGroupDescribe", 1, 0},
    {"ShareFetch", 2, 0},
    {"ShareAcknowledge", 2, 0},
    {"AddRaftVoter", 1, 0},
    {"RemoveRaftVoter", 0, 0},
    {"UpdateRaftVoter", 0, 0},
    {"InitializeShareGroupState", 0, 0},
    {"ReadShareGroupState", 0, 0},
    {"WriteShareGroupState", 1, 0},
    {"DeleteShareGroupState", 0, 0},
    {"ReadShareGroupStateSummary", 1, 0},
    {"StreamsGroupHeartbeat", 1, 0},
    {"StreamsGroupDescribe", 1, 0},
    {"DescribeShareGroupOffsets", 1, 0},
    {"AlterShareGroupOffsets", 0, 0},
    {"DeleteShareGroupOffsets", 0, 0},
    {"StreamsGroupTopologyDescriptionUpdate", 0, 0},
    {"UnregisterController", 0, 0},
});

const Api* Find(ApiKey api) {
  const auto key = static_cast<int16_t>(api);
  return key >= 0 && static_cast<size_t>(key) < kApis.size() ? &kApis[static_cast<size_t>(key)] : nullptr;
}

}  // namespace

bool IsKnown(ApiKey api) { return Find(api) != nullptr; }

std::string_view ApiName(ApiKey api) {
  const Api* found = Find(api);
  return found == nullptr ? "unknown" : found->name;
}

int16_t LatestVersion(ApiKey api) {
  const Api* found = Find(api);
  return found == nullptr ? int16_t{-1} : found->latestVersion;
}

bool IsKnown(ApiKey api, int16_t version) { return version >= 0 && version <= LatestVersion(api); }

bool IsFlexible(ApiKey api, int16_t version) {
  const Api* found = Find(api);
  return found != nullptr && version >= found->flexibleSince;
}

int RequestHeaderVersion(ApiKey api, int16_t version) {
  if (!IsKnown(api)) return -1;
  if (api == ApiKey::kControlledShutdown && version == 0) return 0;
  return IsFlexible(api, version) ? 2 : 1;
}

int ResponseHeaderVersion(ApiKey api, int16_t version) {
  if (!IsKnown(api)) return -1;
  // The client reads this response before it knows what the broker speaks, so its header may never change length.
  if (api == ApiKey::kApiVersions) return 0;
  return IsFlexible(api, version) ? 1 : 0;
}

}  // namespace kveil::kafka
