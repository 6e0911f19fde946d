// Messages: what is kept, what is refused. That their bytes are Kafka's own is tests/kafka/golden's to show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "kafka/messages/api_versions.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"
#include "kafka/messages/share_fetch.h"

namespace kveil::kafka {
namespace {

using ::testing::HasSubstr;

template <class Message>
ByteBuffer Encoded(const Message& message, int16_t version) {
  FrameWriter writer;
  Encode(message, version, writer);
  return writer.ToBuffer();
}

ProduceRequest SampleProduce(Bytes records) {
  ProduceRequest request;
  request.transactionalId = "tx";
  request.acks = -1;
  request.timeoutMs = 30000;
  ProduceRequest::Topic topic;
  topic.name = "clicks";
  topic.topicId.bytes[0] = 9;
  topic.partitionData.push_back({.index = 3, .records = records});
  topic.partitionData.push_back({.index = 4, .records = std::nullopt});
  request.topicData.push_back(topic);
  return request;
}

TEST(MessagesTest, ProduceIsReadBackInEveryVersion) {
  const ByteBuffer records(700, 0x5a);
  for (int16_t version = 0; version <= 13; ++version) {
    const ByteBuffer bytes = Encoded(SampleProduce(records), version);
    const auto request = Decode<ProduceRequest>(bytes, version);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->transactionalId.has_value(), version >= 3);
    EXPECT_EQ(request->acks, -1);
    ASSERT_EQ(request->topicData.size(), 1u);
    EXPECT_EQ(request->topicData[0].name, version < 13 ? "clicks" : "");
    EXPECT_EQ(request->topicData[0].topicId.bytes[0], version < 13 ? 0 : 9);
    ASSERT_EQ(request->topicData[0].partitionData.size(), 2u);
    EXPECT_EQ(request->topicData[0].partitionData[0].records, Bytes(records));
    EXPECT_EQ(request->topicData[0].partitionData[1].records, std::nullopt);
    EXPECT_EQ(Encoded(*request, version), bytes);
  }
}

TEST(MessagesTest, RecordsOfAProduceRequestAreNotCopied) {
  const ByteBuffer records(700, 0x5a);
  FrameWriter writer;
  Encode(SampleProduce(records), 9, writer);
  bool referred = false;
  for (const iovec& slice : writer.Slices()) referred |= slice.iov_base == records.data();
  EXPECT_TRUE(referred);
}

TEST(MessagesTest, CutShortAnywhereIsRefusedAndNamesMessageAndField) {
  const ByteBuffer records(40, 0x5a);
  for (const int16_t version : {8, 9, 13}) {
    const ByteBuffer bytes = Encoded(SampleProduce(records), version);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const auto request = Decode<ProduceRequest>(Bytes(bytes.data(), size), version);
      ASSERT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument)
          << "version " << version << " size " << size;
      EXPECT_THAT(std::string(request.status().message()), HasSubstr("ProduceRequest version"));
    }
  }
  const ByteBuffer bytes = Encoded(SampleProduce(records), 9);
  const auto request = Decode<ProduceRequest>(Bytes(bytes.data(), 30), 9);
  EXPECT_THAT(std::string(request.status().message()), HasSubstr("records"));
}

TEST(MessagesTest, BytesLeftOverAreRefused) {
  ByteBuffer bytes = Encoded(SampleProduce({}), 9);
  bytes.push_back(0);
  EXPECT_EQ(Decode<ProduceRequest>(bytes, 9).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(MessagesTest, ACountBeyondTheBytesIsRefusedWithoutTakingMemory) {
  FrameWriter writer;
  writer.Int(int16_t{-1});          // no transactional id
  writer.Int(int16_t{1});           // acks
  writer.Int(int32_t{0});           // timeout
  writer.Int(int32_t{0x7fffffff});  // topics
  const auto request = Decode<ProduceRequest>(writer.ToBuffer(), 3);
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(request.status().message()), HasSubstr("topicData"));
}

TEST(MessagesTest, MoreElementsThanARequestMayHaveAreRefused) {
  constexpr size_t kMost = 500'000;
  MetadataRequest request;
  request.topics->resize(kMost, {.name = "a name of usual length"});
  EXPECT_TRUE(Decode<MetadataRequest>(Encoded(request, 1), 1).ok());
  request.topics->resize(kMost + 1, {.name = "a name of usual length"});
  const auto more = Decode<MetadataRequest>(Encoded(request, 1), 1);
  EXPECT_EQ(more.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(more.status().message()), HasSubstr("more elements than"));
}

TEST(MessagesTest, ElementsMayTakeAFewTimesTheMemoryThatTheMessageHas) {
  FetchResponse response;
  response.responses.resize(1);
  auto& partitions = response.responses.front().partitions;
  partitions.resize(20'000);
  size_t memory = 0;
  EXPECT_TRUE(Decode<FetchResponse>(Encoded(response, 4), 4, &memory).ok());
  EXPECT_GE(memory, partitions.size() * sizeof(partitions.front()));
  partitions.resize(1'000'000);
  const ByteBuffer much = Encoded(response, 0);
  const auto refused = Decode<FetchResponse>(much, 0, &memory);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("far more memory"));
  EXPECT_LT(memory, 9 * much.size());
}

TEST(MessagesTest, NullAndNegativeLengthsWhereNoneMayBeAreRefused) {
  ByteBuffer nullTopics = Encoded(ProduceRequest{}, 3);
  for (size_t i = nullTopics.size() - 4; i < nullTopics.size(); ++i) nullTopics[i] = 0xff;
  EXPECT_THAT(std::string(Decode<ProduceRequest>(nullTopics, 3).status().message()), HasSubstr("null"));
  nullTopics.back() = 0xfe;
  EXPECT_THAT(std::string(Decode<ProduceRequest>(nullTopics, 3).status().message()), HasSubstr("negative"));
  MetadataRequest request;
  request.topics = std::nullopt;
  EXPECT_EQ(Decode<MetadataRequest>(Encoded(request, 1), 1)->topics, std::nullopt);
  // Version 0 has no null; its empty list means all topics, too.
  EXPECT_TRUE(Decode<MetadataRequest>(Encoded(request, 0), 0)->topics->empty());
}

TEST(MessagesTest, RecordsOfAShareFetchMayBeNullInVersionZeroOnly) {
  ShareFetchResponse response;
  response.responses.emplace_back().partitions.emplace_back();
  const ByteBuffer early = Encoded(response, 0);
  EXPECT_EQ(Decode<ShareFetchResponse>(early, 0)->responses[0].partitions[0].records, std::nullopt);
  for (const int16_t version : {1, 2}) {
    ByteBuffer bytes = Encoded(response, version);
    EXPECT_EQ(Decode<ShareFetchResponse>(bytes, version)->responses[0].partitions[0].records, Bytes());
    // The message ends with: records, no acquired records, no tags; of the topic no tags; no endpoints, no tags.
    uint8_t& length = bytes[bytes.size() - 6];
    ASSERT_EQ(length, 1);
    length = 0;
    EXPECT_THAT(std::string(Decode<ShareFetchResponse>(bytes, version).status().message()), HasSubstr("null"));
  }
}

TEST(MessagesTest, AStructThatMayBeNullIsReadBack) {
  DescribeTopicPartitionsResponse response;
  EXPECT_EQ(Decode<DescribeTopicPartitionsResponse>(Encoded(response, 0), 0)->nextCursor.has_value(), false);
  response.nextCursor = DescribeTopicPartitionsResponse::Cursor{.topicName = "clicks", .partitionIndex = 7};
  const ByteBuffer bytes = Encoded(response, 0);
  const auto read = Decode<DescribeTopicPartitionsResponse>(bytes, 0);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->nextCursor->topicName, "clicks");
  EXPECT_EQ(read->nextCursor->partitionIndex, 7);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Decode<DescribeTopicPartitionsResponse>(Bytes(bytes.data(), size), 0).ok()) << size;
  }
}

TEST(MessagesTest, AnUnknownVersionIsToldApart) {
  EXPECT_EQ(Decode<ProduceRequest>(Bytes(), 14).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Decode<FetchRequest>(Bytes(), 19).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(MessagesTest, UnknownTagsAreKeptInOrderAmongTheKnownOnes) {
  // Tag 0 (current leader) is known from version 10 on; in version 9 it is not, and kept all the same.
  for (const int16_t version : {9, 10}) {
    ProduceResponse response;
    ProduceResponse::Topic topic;
    ProduceResponse::Partition partition;
    const ByteBuffer data = {1, 2, 3};
    if (version >= 10) partition.currentLeader = {.leaderId = 5, .leaderEpoch = 6};
    if (version < 10) partition.unknownTags.push_back({0, data});
    partition.unknownTags.push_back({4, data});
    partition.unknownTags.push_back({70000, Bytes()});
    topic.partitionResponses.push_back(partition);
    response.responses.push_back(topic);
    const ByteBuffer bytes = Encoded(response, version);
    const auto decoded = Decode<ProduceResponse>(bytes, version);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    const ProduceResponse::Partition& read = decoded->responses[0].partitionResponses[0];
    EXPECT_EQ(read.unknownTags, partition.unknownTags);
    EXPECT_EQ(read.currentLeader, partition.currentLeader);
    EXPECT_EQ(Encoded(*decoded, version), bytes);
  }
}

TEST(MessagesTest, ATaggedFieldWithBytesLeftOverIsRefused) {
  FetchRequest request;
  request.clusterId = "c";
  ByteBuffer bytes = Encoded(request, 12);
  // The message ends with: one tag, number 0, size 2, compact length 2, 'c'.
  ASSERT_EQ(bytes[bytes.size() - 3], 2);
  bytes[bytes.size() - 3] = 3;
  bytes.push_back('x');
  EXPECT_THAT(std::string(Decode<FetchRequest>(bytes, 12).status().message()), HasSubstr("clusterId"));
}

TEST(MessagesTest, AReplicasFetchIsRecognisedInEveryVersion) {
  for (int16_t version = 0; version <= 18; ++version) {
    FetchRequest request;
    EXPECT_FALSE(Decode<FetchRequest>(Encoded(request, version), version)->IsFromReplica());
    request.replicaId = 0;
    request.replicaState.replicaId = 0;
    EXPECT_TRUE(Decode<FetchRequest>(Encoded(request, version), version)->IsFromReplica()) << version;
    request.replicaId = -2;  // a debugging consumer
    request.replicaState.replicaId = -2;
    EXPECT_FALSE(Decode<FetchRequest>(Encoded(request, version), version)->IsFromReplica()) << version;
  }
}

TEST(MessagesTest, ApiVersionsWithUnsupportedVersionIsVersionZero) {
  // As a 4.4.0 broker answered version 99.
  const ByteBuffer bytes = {0, 0x23, 0, 0, 0, 1, 0, 0x12, 0, 0, 0, 5};
  for (const int16_t version : {0, 3, 99}) {
    const auto response = Decode<ApiVersionsResponse>(bytes, version);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->errorCode, ErrorCode::kUnsupportedVersion);
    ASSERT_EQ(response->apiKeys.size(), 1u);
    EXPECT_EQ(response->apiKeys[0].apiKey, ApiKey::kApiVersions);
    EXPECT_EQ(response->apiKeys[0].maxVersion, 5);
    EXPECT_EQ(Encoded(*response, version), bytes);
  }
}

}  // namespace
}  // namespace kveil::kafka
