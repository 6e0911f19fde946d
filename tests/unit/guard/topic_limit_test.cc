// How large a batch may become: what is asked of the broker, what is compressed, and what is refused.
#include <gtest/gtest.h>

#include "produce_fixture.h"

namespace kveil::guard {
namespace {

TEST_F(TopicLimit, isAskedForOnceAndDecidesWhatIsCompressed) {
  BrokerSays("52000");
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kZstd);
  ASSERT_EQ(upstream_.asked.size(), 1u);
  EXPECT_EQ(upstream_.asked[0].apiKey, kafka::ApiKey::kDescribeConfigs);
  const auto question = kafka::Decode<kafka::DescribeConfigsRequest>(upstream_.asked[0].body, 1);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->resources.at(0).resourceName, "orders");
  EXPECT_EQ(question->resources.at(0).configurationKeys->at(0), "max.message.bytes");
  BrokerSays("10000000");
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kZstd);
  EXPECT_EQ(upstream_.asked.size(), 1u) << "asked for what is known";
  shared_->topicLimits.Learn("main", "orders", 10'000'000, TopicLimits::Clock::now());
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone);
}

TEST_F(TopicLimit, ofACompressedBatchMakesItTheStrongerCodec) {
  BrokerSays("48000");
  const ByteBuffer snappy = ProducedBatch(records_, kafka::Codec::kSnappy);
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, snappy}})})), kafka::Codec::kZstd);
  shared_->topicLimits.Learn("main", "orders", 10'000'000, TopicLimits::Clock::now());
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, snappy}})})), kafka::Codec::kSnappy);
}

TEST_F(TopicLimit, thatTheBrokerDoesNotTellIsKafkasDefault) {
  BrokerSays("45000", ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone);
  for (const char* limit : {"", "-1", "0", "many"}) {
    shared_->topicLimits.Forget("main", "orders");
    BrokerSays(limit);
    EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone) << limit;
  }
  EXPECT_EQ(upstream_.asked.size(), 5u);
}

TEST_F(TopicLimit, countsOnWhileItIsAskedForAgain) {
  shared_->topicLimits.Learn("main", "orders", 52'000, TopicLimits::Clock::now() - TopicLimits::kLifetime);
  size_t during = 0;
  upstream_.respond = [&](const FakeUpstream::Asked&) -> absl::StatusOr<ByteBuffer> {
    const auto known = shared_->topicLimits.Find("main", "orders", TopicLimits::Clock::now());
    during = known.has_value() ? known->bytes : 0;
    return absl::UnavailableError("the broker has closed the connection");
  };
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kZstd);
  EXPECT_EQ(during, 52'000u);
}

// A broker hears of a new topic a little later than its producers may.
TEST_F(TopicLimit, ofATopicThatTheBrokerDoesNotKnowYetIsAskedForAgain) {
  BrokerSays("45000", ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone);
  BrokerSays("52000");
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kZstd);
}

// The broker would refuse it too, but take a smaller one behind it, and then no part of this one any more.
TEST_F(TopicLimit, keepsTheOrderOfAProducerWhoseBatchHasToBeSplit) {
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

TEST_F(TopicLimit, isAskedForAgainBeforeABatchIsRefused) {
  shared_->topicLimits.Learn("main", "orders", 30'000, TopicLimits::Clock::now() - std::chrono::seconds(30));
  BrokerSays("4000000");
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, batch_}})})), 0);
  EXPECT_EQ(upstream_.asked.size(), 1u);
}

TEST_F(TopicLimit, isNotAskedForWithoutNeed) {
  Produce({Topic("orders", {{0, good_}}), Topic("free", {{0, batch_}}), Topic("readonly", {{0, batch_}})});
  EXPECT_TRUE(upstream_.asked.empty());
}

}  // namespace
}  // namespace kveil::guard
