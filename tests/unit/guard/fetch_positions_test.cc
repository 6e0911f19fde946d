// Where a reader asked from, over the requests of a fetch session (KIP-227).
#include "guard/apis/fetch_positions.h"

#include <gtest/gtest.h>

namespace kveil::guard {
namespace {

class FetchPositionsTest : public testing::Test {
 protected:
  static kafka::FetchRequest::Topic Topic(std::string_view name, std::vector<std::pair<int32_t, int64_t>> offsets) {
    kafka::FetchRequest::Topic topic;
    topic.topic = name;
    for (const auto& [partition, offset] : offsets) {
      kafka::FetchRequest::Partition& added = topic.partitions.emplace_back();
      added.partition = partition;
      added.fetchOffset = offset;
    }
    return topic;
  }
  size_t Apply(std::vector<kafka::FetchRequest::Topic> topics) {
    kafka::FetchRequest request;
    request.topics = std::move(topics);
    return positions_.Apply(request).size();
  }
  void Forget(std::string_view name, std::vector<int32_t> partitions) {
    kafka::FetchRequest request;
    kafka::FetchRequest::ForgottenTopic& forgotten = request.forgottenTopicsData.emplace_back();
    forgotten.topic = name;
    forgotten.partitions = std::move(partitions);
    positions_.Apply(request);
  }
  int64_t OffsetOf(std::string_view name, int32_t partition) const {
    return OffsetOf(FetchPositions::KeyOf(name, {}), partition);
  }

  int64_t OffsetOf(const TopicKey& key, int32_t partition) const {
    const FetchPositions::Partitions* const partitions = positions_.Find(key);
    if (partitions == nullptr || !partitions->contains(partition)) return -1;
    return partitions->at(partition).offset;
  }

  FetchPositions positions_;
};

TEST_F(FetchPositionsTest, KeepTheNewestOffsetOfEachPartition) {
  EXPECT_EQ(Apply({Topic("a", {{0, 10}, {1, 20}}), Topic("b", {{0, 5}})}), 2u);
  EXPECT_EQ(Apply({Topic("a", {{1, 25}})}), 0u);
  EXPECT_EQ(OffsetOf("a", 0), 10);
  EXPECT_EQ(OffsetOf("a", 1), 25);
  EXPECT_EQ(OffsetOf("b", 0), 5);
}

TEST_F(FetchPositionsTest, SayWhenATopicIsNew) {
  EXPECT_EQ(Apply({Topic("a", {{0, 1}})}), 1u);
  EXPECT_EQ(Apply({Topic("a", {{0, 2}}), Topic("b", {{0, 1}})}), 1u);
  EXPECT_EQ(Apply({}), 0u);
}

TEST_F(FetchPositionsTest, AreNotKnownForWhatWasNeverAskedFor) {
  Apply({Topic("a", {{0, 10}})});
  EXPECT_EQ(OffsetOf("a", 7), -1);
  EXPECT_EQ(OffsetOf("b", 0), -1);
}

TEST_F(FetchPositionsTest, ForgetPartitionsAndThenTheirTopic) {
  Apply({Topic("a", {{0, 10}, {1, 20}})});
  Forget("a", {0});
  EXPECT_EQ(OffsetOf("a", 0), -1);
  EXPECT_EQ(OffsetOf("a", 1), 20);
  EXPECT_EQ(positions_.topics().size(), 1u);
  Forget("a", {1, 5});
  EXPECT_TRUE(positions_.topics().empty());
  Forget("never-there", {0});
}

TEST_F(FetchPositionsTest, KeepTopicsByIdApartFromThoseByName) {
  kafka::FetchRequest::Topic byId = Topic("", {{0, 30}});
  byId.topicId.bytes[3] = 9;
  Apply({byId, Topic("a", {{0, 10}})});
  EXPECT_EQ(OffsetOf(FetchPositions::KeyOf("", byId.topicId), 0), 30);
  EXPECT_EQ(OffsetOf("", 0), -1);
}

}  // namespace
}  // namespace kveil::guard
