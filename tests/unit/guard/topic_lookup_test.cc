// What is asked of the broker about topic ids, and what of its answer is believed.
#include "guard/learn/topic_lookup.h"

#include <gtest/gtest.h>

#include "interceptor_fixture.h"
#include "kafka/messages/metadata.h"

namespace kveil::guard {
namespace {

class TopicLookupTest : public InterceptorTest {
 protected:
  TopicLookupTest() { UseTopics(R"({"name": "clicks", "read": []})"); }

  static std::vector<kafka::TopicId> Ids(size_t count) {
    std::vector<kafka::TopicId> ids(count);
    for (size_t i = 0; i < count; ++i) {
      ids[i].bytes[0] = 1;
      ids[i].bytes[14] = static_cast<uint8_t>(i >> 8);
      ids[i].bytes[15] = static_cast<uint8_t>(i);
    }
    return ids;
  }
  void Learn(TopicLookup& lookup, std::vector<kafka::TopicId> ids) {
    auto learn = [&]() -> io::Task<bool> {
      auto learning = lookup.Learn(std::move(ids), upstream_);
      co_await std::move(learning);
      co_return true;
    };
    Await(learn());
  }
};

TEST_F(TopicLookupTest, RemembersFewOfTheIdsThatTheBrokerDoesNotKnow) {
  upstream_.answer = BodyOf(kafka::MetadataResponse(), 12);
  TopicLookup lookup(shared_->topicNames, connection_);
  Learn(lookup, Ids(10'000));
  EXPECT_LE(lookup.unknown(), 100u) << "every connection may have as many";
  EXPECT_GT(lookup.unknown(), 0u);
  ASSERT_EQ(upstream_.asked.size(), 1u);
  Learn(lookup, Ids(100));
  EXPECT_EQ(upstream_.asked.size(), 1u) << "asked for again at once";
}

TEST_F(TopicLookupTest, AsksOnceForAnIdThatIsNamedOften) {
  upstream_.answer = BodyOf(kafka::MetadataResponse(), 12);
  TopicLookup lookup(shared_->topicNames, connection_);
  Learn(lookup, std::vector<kafka::TopicId>(1'000, Id(1)));
  const auto question = kafka::Decode<kafka::MetadataRequest>(upstream_.asked.at(0).body, 12);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->topics->size(), 1u);
}

TEST_F(TopicLookupTest, BelievesNoAnswerThatNamesMoreThanWasAskedFor) {
  kafka::MetadataResponse response;
  for (const kafka::TopicId& id : Ids(1'000)) {
    response.topics.emplace_back().name = "clicks";
    response.topics.back().topicId = id;
  }
  upstream_.answer = BodyOf(response, 12);
  TopicLookup lookup(shared_->topicNames, connection_);
  Learn(lookup, Ids(1));
  EXPECT_EQ(shared_->topicNames.Find(Ids(1'000).back(), connection_), std::nullopt);
}

}  // namespace
}  // namespace kveil::guard
