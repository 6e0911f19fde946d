// What a topic id stands for. Whether a topic is protected hangs on it.
#include "guard/learn/topic_names.h"

#include <gtest/gtest.h>

#include <string>

namespace kveil::guard {
namespace {

kafka::TopicId Id(size_t number) {
  kafka::TopicId id;
  for (size_t i = 0; i < sizeof number; ++i) id.bytes[15 - i] = static_cast<uint8_t>(number >> (8 * i));
  return id;
}

proxy::ConnectionInfo ConnectionOf(uint64_t netnsCookie, std::string workload = "/shop", std::string cluster = "main") {
  proxy::ConnectionInfo connection;
  connection.origin.netnsCookie = netnsCookie;
  connection.cluster = std::move(cluster);
  connection.workload.share = std::move(workload);
  return connection;
}

class TopicNamesTest : public testing::Test {
 protected:
  static constexpr std::chrono::minutes kLifetime{30};

  const proxy::ConnectionInfo here_ = ConnectionOf(1), elsewhere_ = ConnectionOf(2, "/liar");
  TopicNames::Clock::time_point now_ = TopicNames::Clock::now();
};

TEST_F(TopicNamesTest, KnowsWhatItLearned) {
  TopicNames names;
  EXPECT_EQ(names.Find(Id(1), here_), std::nullopt);
  names.Learn(Id(1), "clicks", here_);
  names.Learn(Id(1), "clicks", here_);
  EXPECT_EQ(names.Find(Id(1), here_), "clicks");
}

TEST_F(TopicNamesTest, AnIdThatWasGivenTwoNamesHasNone) {
  TopicNames names;
  names.Learn(Id(1), "secret", here_);
  names.Learn(Id(1), "harmless", here_);
  EXPECT_EQ(names.Find(Id(1), here_), std::nullopt);
  names.Learn(Id(1), "harmless", here_);
  EXPECT_EQ(names.Find(Id(1), here_), std::nullopt) << "whoever says it twice is believed";
}

TEST_F(TopicNamesTest, WhoLiesDeceivesItsOwnNamespaceOnly) {
  TopicNames names;
  names.Learn(Id(1), "harmless", elsewhere_);
  EXPECT_EQ(names.Find(Id(1), here_), std::nullopt) << "it has to be asked for";
  names.Learn(Id(1), "secret", here_);
  EXPECT_EQ(names.Find(Id(1), here_), "secret");
  names.Learn(Id(2), "secret", here_);
  names.Learn(Id(2), "harmless", elsewhere_);
  EXPECT_EQ(names.Find(Id(2), here_), "secret") << "nobody is cut off from it";
}

TEST_F(TopicNamesTest, AClusterNamesItsOwnTopicsOnly) {
  TopicNames names;
  names.Learn(Id(1), "secret", here_);
  names.Learn(Id(1), "harmless", ConnectionOf(1, "/shop", "other"));
  EXPECT_EQ(names.Find(Id(1), here_), "secret");
}

TEST_F(TopicNamesTest, WhatIsUsedIsNotForgotten) {
  TopicNames names;
  names.Learn(Id(1), "asked for", here_, now_);
  names.Learn(Id(2), "named", here_, now_);
  names.Learn(Id(3), "unused", here_, now_);
  for (int i = 1; i <= 3; ++i) {
    now_ += kLifetime - std::chrono::seconds(1);
    EXPECT_EQ(names.Find(Id(1), here_, now_), "asked for");
    names.Learn(Id(2), "named", here_, now_);
  }
  EXPECT_EQ(names.Find(Id(3), here_, now_), std::nullopt);
  names.Learn(Id(2), "another", here_, now_);
  EXPECT_EQ(names.Find(Id(2), here_, now_), std::nullopt);
}

TEST_F(TopicNamesTest, WhatIsKnownIsNotPushedOutByManyOthers) {
  TopicNames names({.most = 100});
  names.Learn(Id(1), "secret", here_, now_);
  for (size_t number = 2; number < 200; ++number) names.Learn(Id(number), "flood", here_, now_);
  EXPECT_EQ(names.Find(Id(1), here_, now_), "secret");
  EXPECT_EQ(names.Find(Id(199), here_, now_), std::nullopt) << "so what names it is refused";
}

TEST_F(TopicNamesTest, AWorkloadLeavesRoomForTheOthers) {
  TopicNames names({.most = 100});
  // However many namespaces it makes.
  for (size_t number = 1; number <= 200; ++number) {
    names.Learn(Id(number), "flood", ConnectionOf(2 + number, "/liar"), now_);
  }
  EXPECT_NE(std::string(names.Health(now_).message()).find("/liar"), std::string::npos) << names.Health(now_);
  EXPECT_TRUE(names.Health(now_ + std::chrono::minutes(1)).ok());
  for (size_t number = 1; number <= 10; ++number) names.Learn(Id(number), "clicks", here_, now_);
  EXPECT_EQ(names.Find(Id(10), here_, now_), "clicks");
  now_ += kLifetime;  // the namespaces are gone
  for (size_t number = 301; number <= 350; ++number) names.Learn(Id(number), "later", here_, now_);
  EXPECT_EQ(names.Find(Id(350), here_, now_), "later");
}

TEST_F(TopicNamesTest, ANameThatNoTopicCanHaveIsNone) {
  TopicNames names;
  names.Learn(Id(1), std::string(250, 'x'), here_);
  EXPECT_EQ(names.Find(Id(1), here_), std::nullopt);
  EXPECT_TRUE(names.Health().ok());
}

}  // namespace
}  // namespace kveil::guard
