// What a topic id stands for. Whether a topic is protected hangs on it.
#include "guard/topic_names.h"

#include <gtest/gtest.h>

#include <string>

namespace kveil::guard {
namespace {

kafka::TopicId Id(uint8_t number) {
  kafka::TopicId id;
  id.bytes[15] = number;
  return id;
}

TEST(TopicNamesTest, KnowsWhatItLearned) {
  TopicNames names;
  EXPECT_EQ(names.Find(Id(1)), std::nullopt);
  names.Learn(Id(1), "clicks");
  names.Learn(Id(1), "clicks");
  EXPECT_EQ(names.Find(Id(1)), "clicks");
}

TEST(TopicNamesTest, AnIdThatWasGivenTwoNamesHasNone) {
  TopicNames names;
  names.Learn(Id(1), "secret");
  names.Learn(Id(1), "harmless");
  EXPECT_EQ(names.Find(Id(1)), std::nullopt);
  names.Learn(Id(1), "harmless");
  EXPECT_EQ(names.Find(Id(1)), std::nullopt) << "whoever says it twice is believed";
}

TEST(TopicNamesTest, WhatIsKnownIsNotPushedOutByManyOthers) {
  TopicNames names(2);
  names.Learn(Id(1), "secret");
  for (uint8_t number = 2; number < 100; ++number) names.Learn(Id(number), "flood");
  names.Learn(Id(1), "harmless");
  EXPECT_NE(names.Find(Id(1)), "harmless");
}

TEST(TopicNamesTest, OneClusterTakesNoRoomFromAnother) {
  TopicNames names(2);
  for (uint8_t number = 1; number < 100; ++number) names.Learn(Id(number), "flood", "loud");
  EXPECT_EQ(names.Health().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(names.Health().message()).find("cluster loud"), std::string::npos);
  names.Learn(Id(200), "clicks", "quiet");
  EXPECT_EQ(names.Find(Id(200)), "clicks");
  EXPECT_EQ(names.Find(Id(2)), "flood");
  EXPECT_EQ(names.Find(Id(3)), std::nullopt) << "so what names it is refused";
}

TEST(TopicNamesTest, ANameThatNoTopicCanHaveIsNone) {
  TopicNames names;
  names.Learn(Id(1), std::string(250, 'x'));
  EXPECT_EQ(names.Find(Id(1)), std::nullopt);
  EXPECT_TRUE(names.Health().ok());
}

}  // namespace
}  // namespace kveil::guard
