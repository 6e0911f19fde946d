// A workload that can make a network namespace can answer in it as the cluster. It deceives nobody but itself.
#include <gtest/gtest.h>

#include "guard/apis/learning_guard.h"
#include "kafka/messages/metadata.h"
#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using LearnsMetadata = LearningGuard<kafka::MetadataResponse>;

class DeceivedTest : public TopicLimitTest {
 protected:
  DeceivedTest() {
    connection_.origin.netnsCookie = 1;
    liar_.cluster = connection_.cluster;
    liar_.origin.targetIndex = connection_.origin.targetIndex;
    liar_.origin.netnsCookie = 2;
    liar_.workload.share = "/liar";
    metadata_ = std::make_unique<LearnsMetadata>(Context());
    liarsMetadata_ = std::make_unique<LearnsMetadata>(ContextOf(liar_));
  }

  void Names(LearnsMetadata& guard, std::string_view name) {
    kafka::MetadataResponse response;
    response.topics.emplace_back().name = name;
    response.topics[0].topicId = Id(1);
    EXPECT_TRUE(Response(guard, 12, response).forwarded());
  }
  bool IsSealed(const RequestResult& result) {
    if (!result.rewritten() || AllRefused(result, 13)) return false;
    const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 13);
    return AsText(*forwarded.topicData.at(0).partitionData.at(0).records).find("/home") == std::string_view::npos;
  }

  proxy::ConnectionInfo liar_;
  std::unique_ptr<LearnsMetadata> metadata_, liarsMetadata_;
};

TEST_F(DeceivedTest, NobodyElseSendsInTheClearWhatItNamesFirst) {
  Names(*liarsMetadata_, "free");
  const RequestResult unknown = Produce({TopicById(Id(1), {{0, good_}})}, 13);
  EXPECT_TRUE(AllRefused(unknown, 13)) << "another broker's word counts";
  Names(*metadata_, "clicks");
  EXPECT_TRUE(IsSealed(Produce({TopicById(Id(1), {{0, good_}})}, 13)));
}

TEST_F(DeceivedTest, NobodyElseIsCutOffFromATopicByASecondName) {
  Names(*metadata_, "clicks");
  Names(*liarsMetadata_, "free");
  EXPECT_TRUE(IsSealed(Produce({TopicById(Id(1), {{0, good_}})}, 13)));
}

TEST_F(DeceivedTest, NobodyElsesBatchesAreRefusedForALimitThatItMakesUp) {
  BrokerSays("1");
  guard_ = std::make_unique<ProduceGuard>(ContextOf(liar_));
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, batch_}})})), 10);
  guard_ = NewConnection();
  BrokerSays("1000000");
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, batch_}})})), 0);
}

TEST_F(DeceivedTest, NoLimitIsLearnedThatNobodyAskedFor) {
  BrokerSays("1");
  limitAnswer_ = [] {
    kafka::DescribeConfigsResponse response;
    kafka::DescribeConfigsResponse::Result& result = response.results.emplace_back();
    result.resourceType = kafka::ConfigResourceType::kTopic;
    result.resourceName = "clicks";
    kafka::DescribeConfigsResponse::Config& config = result.configs.emplace_back();
    config.name = "max.message.bytes";
    config.value = "1";
    return BodyOf(response, 1);
  };
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, batch_}})})), 0);
  EXPECT_EQ(Questions(), 1u);
  EXPECT_FALSE(shared_->topicLimits.Find(connection_, "clicks", TopicLimits::Clock::now()).has_value());
}

// However many topics it makes up, and in however many namespaces.
TEST_F(DeceivedTest, NobodyElsesLimitsAreForgottenForMany) {
  TopicLimits limits(100);
  const TopicLimits::Clock::time_point now = TopicLimits::Clock::now();
  limits.Learn(connection_, "orders", 52'000, now);
  for (uint64_t i = 0; i < 200; ++i) {
    liar_.origin.netnsCookie = 2 + i;
    limits.Learn(liar_, StrCat("topic", i), 1, now);
  }
  EXPECT_TRUE(limits.Find(connection_, "orders", now).has_value());
  limits.Learn(connection_, "clicks", 52'000, now);
  EXPECT_TRUE(limits.Find(connection_, "clicks", now).has_value());
}

}  // namespace
}  // namespace kveil::guard
