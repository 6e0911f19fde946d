// What passes about topics and brokers is learned before the client hears of it.
#include "guard/apis/learning_guard.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>

#include "guard/apis/guarded_apis.h"
#include "interceptor_fixture.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/find_coordinator.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;

class LearningGuardTest : public InterceptorTest {
 protected:
  LearningGuardTest() { UseTopics(R"({"name": "clicks", "read": []})"); }

  template <typename Message>
  ResponseResult Learned(int16_t version, const Message& response) {
    LearningGuard<Message> guard(Context());
    return Response(guard, version, response);
  }

  static kafka::MetadataResponse Metadata(std::vector<std::pair<std::string_view, int32_t>> brokers) {
    kafka::MetadataResponse response;
    for (const auto& [host, port] : brokers) {
      kafka::MetadataResponse::Broker& broker = response.brokers.emplace_back();
      broker.host = host;
      broker.port = port;
    }
    return response;
  }
};

TEST_F(LearningGuardTest, LearnsTheNamesOfTopicIds) {
  for (int16_t version = 10; version <= 13; ++version) {
    kafka::MetadataResponse response = Metadata({});
    const std::string name = StrCat("topic", version);
    response.topics.emplace_back().name = name;
    response.topics[0].topicId = Id(static_cast<uint8_t>(version));
    EXPECT_TRUE(Learned(version, response).forwarded());
    EXPECT_EQ(shared_->topicNames.Find(Id(static_cast<uint8_t>(version)), connection_), name);
  }
}

TEST_F(LearningGuardTest, LearnsTheIdOfATopicThatIsCreated) {
  kafka::CreateTopicsResponse response;
  response.topics.emplace_back().name = "made";
  response.topics[0].topicId = Id(1);
  EXPECT_TRUE(Learned(6, response).forwarded());
  EXPECT_EQ(shared_->topicNames.Find(Id(1), connection_), std::nullopt) << "version 6 has no ids";
  EXPECT_TRUE(Learned(7, response).forwarded());
  EXPECT_EQ(shared_->topicNames.Find(Id(1), connection_), "made");
}

TEST_F(LearningGuardTest, LearnsTheIdsOfDescribedTopics) {
  kafka::DescribeTopicPartitionsResponse response;
  for (uint8_t number = 1; number <= 2; ++number) {
    kafka::DescribeTopicPartitionsResponse::Topic& topic = response.topics.emplace_back();
    topic.name = number == 1 ? "first" : "second";
    topic.topicId = Id(number);
  }
  response.topics.emplace_back().topicId = Id(3);  // one that the broker does not know
  EXPECT_TRUE(Learned(0, response).forwarded());
  EXPECT_EQ(shared_->topicNames.Find(Id(1), connection_), "first");
  EXPECT_EQ(shared_->topicNames.Find(Id(2), connection_), "second");
  EXPECT_EQ(shared_->topicNames.Find(Id(3), connection_), std::nullopt);
}

TEST_F(LearningGuardTest, ATopicMadeAnewUnderItsNameHasBothIds) {
  for (uint8_t number = 1; number <= 2; ++number) {
    kafka::CreateTopicsResponse response;
    response.topics.emplace_back().name = "clicks";
    response.topics[0].topicId = Id(number);
    EXPECT_TRUE(Learned(7, response).forwarded());
  }
  EXPECT_EQ(shared_->topicNames.Find(Id(1), connection_), "clicks");
  EXPECT_EQ(shared_->topicNames.Find(Id(2), connection_), "clicks");
}

TEST_F(LearningGuardTest, LearnsNothingOfAnIdWithoutAName) {
  kafka::MetadataResponse response = Metadata({});
  response.topics.emplace_back().topicId = Id(1);
  EXPECT_TRUE(Learned(12, response).forwarded());
  EXPECT_EQ(shared_->topicNames.Find(Id(1), connection_), std::nullopt);
}

// A response may hold millions of them.
TEST_F(LearningGuardTest, LetsOthersHaveTheirTurnBetweenTopics) {
  std::vector<std::string> names;
  for (size_t i = 0; i < 50'000; ++i) names.push_back(StrCat("topic", i));
  kafka::MetadataResponse response = Metadata({});
  for (size_t i = 0; i < names.size(); ++i) {
    kafka::MetadataResponse::Topic& topic = response.topics.emplace_back();
    topic.name = names[i];
    topic.topicId.bytes[0] = 1;
    for (size_t byte = 0; byte < 4; ++byte) topic.topicId.bytes[15 - byte] = static_cast<uint8_t>(i >> (8 * byte));
  }
  const kafka::TopicId first = response.topics.front().topicId, last = response.topics.back().topicId;
  // Looks again each time that it has a turn.
  std::atomic<bool> wasBetween = false, isDone = false;
  std::promise<void> looked;
  std::function<void()> look = [&] {
    const bool knowsFirst = shared_->topicNames.Find(first, connection_).has_value();
    if (knowsFirst && !shared_->topicNames.Find(last, connection_).has_value()) wasBetween = true;
    if (isDone) {
      looked.set_value();
    } else {
      loop_->Post(look);
    }
  };
  loop_->Post(look);
  EXPECT_TRUE(Learned(12, response).forwarded());
  isDone = true;
  looked.get_future().get();
  EXPECT_TRUE(wasBetween);
  EXPECT_TRUE(shared_->topicNames.Find(last, connection_).has_value());
}

TEST_F(LearningGuardTest, MakesEveryAdvertisedBrokerATarget) {
  EXPECT_TRUE(Learned(9, Metadata({{"127.0.0.8", 9092}, {"127.0.0.9", 9093}})).forwarded());
  EXPECT_EQ(learned_, (std::vector<std::string>{"127.0.0.8:9092 of target 3", "127.0.0.9:9093 of target 3"}));
}

TEST_F(LearningGuardTest, MakesACoordinatorATarget) {
  kafka::FindCoordinatorResponse one;
  one.host = "127.0.0.8";
  one.port = 9092;
  EXPECT_TRUE(Learned(3, one).forwarded());
  kafka::FindCoordinatorResponse several;
  several.coordinators.emplace_back().host = "127.0.0.9";
  several.coordinators[0].port = 9093;
  EXPECT_TRUE(Learned(4, several).forwarded());
  EXPECT_EQ(learned_, (std::vector<std::string>{"127.0.0.8:9092 of target 3", "127.0.0.9:9093 of target 3"}));
}

TEST_F(LearningGuardTest, MakesTheBrokersOfADescribedClusterTargets) {
  kafka::DescribeClusterResponse response;
  response.brokers.emplace_back().host = "127.0.0.8";
  response.brokers[0].port = 9092;
  EXPECT_TRUE(Learned(1, response).forwarded());
  EXPECT_EQ(learned_, (std::vector<std::string>{"127.0.0.8:9092 of target 3"}));
}

// What a broker says of one that is not there for a moment: clients ask again, and go on with the others.
TEST_F(LearningGuardTest, LeavesABrokerOutThatItCouldNotLearn) {
  namedBrokers_ = {{"b1.internal", "10.0.0.1"}, {"b3.internal", "10.0.0.3"}};
  kafka::MetadataResponse response = Metadata({{"b1.internal", 9092}, {"b2.internal", 9092}, {"b3.internal", 9092}});
  for (int32_t id = 0; id < 3; ++id) response.brokers[static_cast<size_t>(id)].nodeId = id + 1;
  response.controllerId = 2;
  kafka::MetadataResponse::Topic& topic = response.topics.emplace_back();
  topic.name = "clicks";
  for (int32_t leader = 1; leader <= 3; ++leader) {
    kafka::MetadataResponse::Partition& partition = topic.partitions.emplace_back();
    partition.partitionIndex = leader;
    partition.leaderId = leader;
    partition.replicaNodes = {1, 2, 3};
  }
  for (int16_t version = 1; version <= 13; ++version) {
    const ResponseResult result = Learned(version, response);
    ASSERT_TRUE(result.rewritten());
    const auto told = WrittenResponse<kafka::MetadataResponse>(result.written, version);
    ASSERT_EQ(told.brokers.size(), 2u);
    EXPECT_EQ(told.brokers[0].host, "b1.internal");
    EXPECT_EQ(told.brokers[1].host, "b3.internal");
    EXPECT_EQ(told.controllerId, -1);
    const auto& partitions = told.topics.at(0).partitions;
    EXPECT_EQ(partitions.at(0).leaderId, 1);
    EXPECT_EQ(partitions.at(0).errorCode, kafka::ErrorCode::kNone);
    EXPECT_EQ(partitions.at(1).leaderId, -1);
    EXPECT_EQ(partitions.at(1).errorCode, kafka::ErrorCode::kLeaderNotAvailable);
    EXPECT_EQ(partitions.at(2).leaderId, 3);
  }
  EXPECT_NE(std::string(brokers_.Health().message()).find("b2.internal:9092"), std::string::npos);
}

TEST_F(LearningGuardTest, SaysOfACoordinatorThatItCouldNotLearnThatItIsNotAvailable) {
  namedBrokers_ = {{"b1.internal", "10.0.0.1"}};
  kafka::FindCoordinatorResponse one;
  one.nodeId = 2;
  one.host = "b2.internal";
  one.port = 9092;
  const auto told = WrittenResponse<kafka::FindCoordinatorResponse>(Learned(3, one).written, 3);
  EXPECT_EQ(told.errorCode, kafka::ErrorCode::kCoordinatorNotAvailable);
  EXPECT_EQ(told.nodeId, -1);
  EXPECT_EQ(told.host, "");
  kafka::FindCoordinatorResponse several;
  for (const std::string_view host : {"b1.internal", "b2.internal"}) {
    auto& coordinator = several.coordinators.emplace_back();
    coordinator.host = host;
    coordinator.port = 9092;
  }
  const auto both = WrittenResponse<kafka::FindCoordinatorResponse>(Learned(4, several).written, 4);
  EXPECT_EQ(both.coordinators.at(0).host, "b1.internal");
  EXPECT_EQ(both.coordinators.at(0).errorCode, kafka::ErrorCode::kNone);
  EXPECT_EQ(both.coordinators.at(1).host, "");
  EXPECT_EQ(both.coordinators.at(1).errorCode, kafka::ErrorCode::kCoordinatorNotAvailable);
}

TEST_F(LearningGuardTest, LeavesABrokerOutThatTheKernelDoesNotTake) {
  learnStatus_ = absl::ResourceExhaustedError("the table of targets is full");
  kafka::DescribeClusterResponse response;
  response.brokers.emplace_back().host = "127.0.0.8";
  response.brokers[0].port = 9092;
  const ResponseResult result = Learned(1, response);
  ASSERT_TRUE(result.rewritten());
  EXPECT_TRUE(WrittenResponse<kafka::DescribeClusterResponse>(result.written, 1).brokers.empty());
  EXPECT_NE(std::string(brokers_.Health().message()).find("the table of targets is full"), std::string::npos);
}

TEST_F(LearningGuardTest, PassesACoordinatorThatTheBrokerDoesNotKnow) {
  kafka::FindCoordinatorResponse none;
  none.errorCode = kafka::ErrorCode::kCoordinatorNotAvailable;
  none.port = -1;
  EXPECT_TRUE(Learned(3, none).forwarded());
  EXPECT_TRUE(learned_.empty());
}

TEST_F(LearningGuardTest, ClosesOnWhatItCannotRead) {
  int learning = 0;
  for (const GuardedApi& api : GuardedApis()) {
    if (api.Has(Use::kRecords) || !(api.Has(Use::kBrokers) || api.Has(Use::kTopicIds))) continue;
    if (api.key == ApiKey::kShareAcknowledge) continue;  // its requests are read, too
    ++learning;
    const std::unique_ptr<proxy::Interceptor> guard = api.make(Context());
    const RequestResult unknown = RequestBytes(*guard, api.key, 99, Bytes());
    ASSERT_TRUE(unknown.closed());
    EXPECT_EQ(unknown.verdict.reason, StrCat(kafka::ApiName(api.key), " version 99, which the agent cannot read"));
    EXPECT_TRUE(RequestBytes(*guard, api.key, 0, Bytes()).verdict.wantResponse);
    const int16_t version = api.key == ApiKey::kDescribeTopicPartitions ? 0 : 1;
    EXPECT_TRUE(ResponseBytes(*guard, api.key, version, AsBytes("\x7f\x7f\x7f\x7f no answer"), nullptr).closed());
  }
  EXPECT_EQ(learning, 5);
}

}  // namespace
}  // namespace kveil::guard
