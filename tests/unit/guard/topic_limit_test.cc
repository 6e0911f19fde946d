// How large a batch may become: what is asked of the broker, what is split, and what is refused.
#include <gtest/gtest.h>

#include "produce_fixture.h"

namespace kveil::guard {
namespace {

TEST_F(TopicLimitTest, IsAskedForOnceAndDecidesWhatIsSplit) {
  BrokerSays("52000");
  EXPECT_GT(PartsOf({{0, batch_}}), 1u);
  ASSERT_EQ(Questions(), 1u);
  EXPECT_EQ(upstream_.asked[0].apiKey, kafka::ApiKey::kDescribeConfigs);
  const auto question = kafka::Decode<kafka::DescribeConfigsRequest>(upstream_.asked[0].body, 1);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->resources.at(0).resourceName, "orders");
  EXPECT_EQ(question->resources.at(0).configurationKeys->at(0), "max.message.bytes");
  BrokerSays("10000000");
  EXPECT_GT(PartsOf({{0, batch_}}), 1u);
  EXPECT_EQ(Questions(), 1u) << "asked for what is known";
  shared_->topicLimits.Learn(connection_, "orders", 10'000'000, TopicLimits::Clock::now());
  EXPECT_EQ(PartsOf({{1, batch_}}), 1u);
  EXPECT_GT(PartsOf({{0, batch_}}), 1u) << "the broker may have it, in parts";
}

TEST_F(TopicLimitTest, IsAskedForOnceForATopicThatIsNamedManyTimes) {
  BrokerSays("52000");
  std::vector<ProduceRequest::Topic> topics;
  for (int32_t i = 0; i < 10; ++i) topics.push_back(Topic("orders", {{i, batch_}}));
  Produce(topics);
  const auto question = kafka::Decode<kafka::DescribeConfigsRequest>(upstream_.asked.at(0).body, 1);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->resources.size(), 1u);
}

TEST_F(TopicLimitTest, ThatTheBrokerDoesNotTellIsKafkasDefault) {
  BrokerSays("45000", ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(PartsOf({{0, batch_}}), 1u);
  for (const char* limit : {"", "-1", "0", "many"}) {
    shared_->topicLimits.Forget(connection_, "orders");
    BrokerSays(limit);
    EXPECT_EQ(PartsOf({{0, batch_}}), 1u) << limit;
  }
  EXPECT_EQ(Questions(), 5u);
}

TEST_F(TopicLimitTest, CountsOnWhileItIsAskedForAgain) {
  shared_->topicLimits.Learn(connection_, "orders", 52'000, TopicLimits::Clock::now() - TopicLimits::kLifetime);
  size_t during = 0;
  BrokerSays("52000");
  limitAnswer_ = [&]() -> absl::StatusOr<ByteBuffer> {
    const auto known = shared_->topicLimits.Find(connection_, "orders", TopicLimits::Clock::now());
    during = known.has_value() ? known->bytes : 0;
    return absl::UnavailableError("the broker has closed the connection");
  };
  EXPECT_GT(PartsOf({{0, batch_}}), 1u);
  EXPECT_EQ(during, 52'000u);
}

// A broker hears of a new topic a little later than its producers may.
TEST_F(TopicLimitTest, OfATopicThatTheBrokerDoesNotKnowYetIsAskedForAgain) {
  BrokerSays("45000", ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(PartsOf({{0, batch_}}), 1u);
  BrokerSays("52000");
  EXPECT_GT(PartsOf({{0, batch_}}), 1u);
}

// The broker would refuse it too, but take a smaller one behind it, and then no part of this one any more.
TEST_F(TopicLimitTest, KeepsTheOrderOfAProducerWhoseBatchHasToBeSplit) {
  BrokerSays("30000");
  TestBatch fields;
  fields.producerId = 7;
  fields.producerEpoch = 0;
  fields.baseSequence = 0;
  const ByteBuffer whole = ProducedBatch(records_, kafka::Codec::kNone, fields);
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, whole}})})), 10);
  const ByteBuffer next = BatchOf(300, Record("k", "small"));
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, next}})})), 19) << "it got in before";
  std::vector<TestRecord> half(records_.begin(), records_.begin() + 150);
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, ProducedBatch(half, kafka::Codec::kNone, fields)}})})), 0);
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, next}})})), 0);
}

TEST_F(TopicLimitTest, IsAskedForAgainBeforeABatchIsRefused) {
  shared_->topicLimits.Learn(connection_, "orders", 30'000, TopicLimits::Clock::now() - std::chrono::seconds(30));
  BrokerSays("4000000");
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, batch_}})})), 0);
  EXPECT_EQ(Questions(), 1u);
}

// Of few bytes as it came, but of many once it is sealed: it is cut like any other, and so the limit has to be known.
TEST_F(TopicLimitTest, IsAskedForWhereABatchOfFewBytesMayBeLargeSealed) {
  std::vector<TestRecord> records;
  for (int i = 0; i < 30; ++i) records.push_back(Record("k", Noise(100)));
  for (const kafka::Codec codec : {kafka::Codec::kNone, kafka::Codec::kZstd}) {
    shared_->topicLimits.Forget(connection_, "orders");
    upstream_.asked.clear();
    BrokerSays("4200");
    const ByteBuffer few = ProducedBatch(records, codec);
    ASSERT_LT(few.size(), 4096u);
    EXPECT_GT(PartsOf({{static_cast<int32_t>(codec), few}}), 1u) << kafka::CodecName(codec);
    EXPECT_EQ(Questions(), 1u) << kafka::CodecName(codec);
  }
}

// Nothing is asked for it, so that whatever is known of the topic at one time may not be at another.
TEST_F(TopicLimitTest, DoesNotCountForABatchThatItIsNotAskedForWith) {
  const ByteBuffer batch = ProducedBatch(std::vector<TestRecord>(10, Record("k", Noise(100))));
  const RequestResult whole = Produce({Topic("orders", {{0, batch}})});
  const auto forwarded = WrittenRequest<ProduceRequest>(whole.written, 9);
  const size_t sealed = forwarded.topicData.at(0).partitionData.at(0).records->size();
  shared_->topicLimits.Learn(connection_, "orders", sealed, TopicLimits::Clock::now());
  EXPECT_EQ(PartsOf({{0, batch}}), 1u);
}

// A request of some bytes for each of very many topics: those beyond go as they do when the broker does not tell.
TEST_F(TopicLimitTest, IsAskedForOfAThousandTopicsAtOnce) {
  UseTopics(R"({"pattern": "many-.*", "seal": {"scope": "topic"}, "read": [{"any": true}]})");
  BrokerSays("52000");
  const ByteBuffer batch = ProducedBatch({Record("k", "v")}, kafka::Codec::kZstd);
  std::vector<std::string> names;
  for (int i = 0; i < 1500; ++i) names.push_back(StrCat("many-", i));
  std::vector<ProduceRequest::Topic> topics;
  for (const std::string& name : names) topics.push_back(Topic(name, {{0, batch}}));
  Produce(topics);
  const auto question = kafka::Decode<kafka::DescribeConfigsRequest>(upstream_.asked.at(0).body, 1);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->resources.size(), 1000u);
  EXPECT_EQ(Questions(), 1u);
}

TEST(TopicLimitsTest, CountForAMinuteWhenTheyWereLearnedByTrying) {
  const TopicLimits::Clock::time_point now = TopicLimits::Clock::now();
  TopicLimits limits;
  const proxy::ConnectionInfo here;
  limits.Assume(here, "orders", now);
  limits.Took(here, "orders", 5'000, now + std::chrono::seconds(30));
  const auto taken = limits.Find(here, "orders", now + std::chrono::seconds(59));
  ASSERT_TRUE(taken.has_value());
  EXPECT_EQ(taken->proven, 5'000u);
  EXPECT_FALSE(limits.Find(here, "orders", now + TopicLimits::kLifetime).has_value());
}

TEST_F(TopicLimitTest, IsNotAskedForWithoutNeed) {
  Produce({Topic("orders", {{0, good_}}), Topic("free", {{0, batch_}}), Topic("readonly", {{0, batch_}})});
  EXPECT_TRUE(upstream_.asked.empty());
}

}  // namespace
}  // namespace kveil::guard
