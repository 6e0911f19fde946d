// Topics that no policy selects: what becomes of what is produced to them, and which of them are named.
#include "guard/state/unselected_writes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guard/open/records_opener.h"
#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using Clock = UnselectedWrites::Clock;

TEST(UnselectedWritesTest, NamesTopicsThatAReaderOfProtectedOnesWritesTo) {
  UnselectedWrites writes;
  const Clock::time_point now = Clock::now();
  EXPECT_FALSE(writes.NoteWrite("/streams", "early", now)) << "nobody has read anything";
  writes.NoteRead("/streams", now);
  EXPECT_FALSE(writes.NoteWrite("/shop", "orders", now));
  EXPECT_TRUE(writes.NoteWrite("/streams", "app-repartition", now));
  EXPECT_TRUE(writes.NoteWrite("/streams", "app-changelog", now));
  EXPECT_TRUE(writes.NoteWrite("/streams", "app-changelog", now));
  const UnselectedWrites::Report report = writes.report();
  ASSERT_EQ(report.topics.size(), 2u);
  EXPECT_EQ(report.topics[0].name, "app-changelog");
  EXPECT_EQ(report.topics[1].name, "app-repartition");
  EXPECT_EQ(report.topics[1].workload, "/streams");
  EXPECT_FALSE(report.hasMore);
}

TEST(UnselectedWritesTest, RemembersNoMoreThanItsBounds) {
  UnselectedWrites writes;
  const Clock::time_point now = Clock::now();
  writes.NoteRead("/first", now);
  for (size_t i = 0; i < UnselectedWrites::kMostReaders; ++i) writes.NoteRead(StrCat("/reader", i), now);
  EXPECT_FALSE(writes.NoteWrite("/first", "t", now)) << "the one that read longest ago is forgotten";
  for (size_t i = 0; i < UnselectedWrites::kMostTopics + 5; ++i) {
    EXPECT_TRUE(writes.NoteWrite("/reader1", StrCat("topic", i), now));
  }
  EXPECT_EQ(writes.report().topics.size(), UnselectedWrites::kMostTopics);
  EXPECT_TRUE(writes.report().hasMore);
  EXPECT_FALSE(writes.NoteWrite("/reader1", "t", now + UnselectedWrites::kRememberReader));
}

class UnselectedTopicsTest : public ProduceGuardTest {
 protected:
  void UseUnselected(const std::string& unselected) {
    UsePolicyFile("{\"unselected\": " + unselected + ", \"topics\": [" + kProduceTopics + "]}");
  }
};

TEST_F(UnselectedTopicsTest, RefusesWhatNoPolicySelects) {
  UseUnselected("\"refuse\"");
  for (const int16_t version : {3, 8, 9, 12}) {
    RequestResult result = Produce({Topic("free", {{0, good_}}), Topic("clicks", {{0, good_}}),
                                    Topic("readonly", {{0, good_}}), Topic("__consumer_offsets", {{0, good_}})},
                                   version);
    ASSERT_TRUE(result.rewritten()) << version;
    const auto forwarded = WrittenRequest<ProduceRequest>(result.written, version);
    EXPECT_EQ(Lines(Accepted(forwarded)),
              (std::vector<std::string>{"__consumer_offsets/0 0 900", "clicks/0 0 900", "readonly/0 0 900"}));
    const ResponseResult answer = Response(*guard_, version, Accepted(forwarded), result.verdict.state.get());
    const auto merged = WrittenResponse<ProduceResponse>(answer.written, version);
    EXPECT_THAT(Lines(merged), testing::Contains("free/0 29 -1"));
  }
}

TEST_F(UnselectedTopicsTest, RefusesThemByIdToo) {
  UseUnselected("\"refuse\"");
  shared_->topicNames.Learn(Id(1), "free", connection_);
  const RequestResult result = Produce({TopicById(Id(1), {{0, good_}})}, 13);
  ASSERT_TRUE(AllRefused(result, 13));
  const ProduceResponse response = Refusals(result, 13);
  EXPECT_EQ(response.responses.at(0).partitionResponses.at(0).errorCode, ErrorCode::kTopicAuthorizationFailed);
}

TEST_F(UnselectedTopicsTest, SealsWhatNoPolicySelects) {
  UseUnselected(R"({"seal": {"scope": "topic"}, "read": [{"any": true}]})");
  const RequestResult result = Produce({Topic("free", {{0, good_}}), Topic("__consumer_offsets", {{0, good_}})});
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
  const Bytes sealed = *forwarded.topicData.at(0).partitionData.at(0).records;
  EXPECT_EQ(AsText(sealed).find("anna\","), std::string::npos);
  EXPECT_EQ(forwarded.topicData.at(1).partitionData.at(0).records, Bytes(good_));
}

TEST_F(UnselectedTopicsTest, NamesThemOnceTheWorkloadHasReadAProtectedTopic) {
  connection_.workload.share = "/streams";
  EXPECT_TRUE(Produce({Topic("free", {{0, good_}})}).forwarded());
  EXPECT_TRUE(shared_->unselectedWrites.report().topics.empty());
  shared_->unselectedWrites.NoteRead("/streams", Clock::now());
  EXPECT_TRUE(Produce({Topic("free", {{0, good_}})}).forwarded());
  EXPECT_TRUE(Produce({Topic("readonly", {{0, good_}}), Topic("__consumer_offsets", {{0, good_}})}).forwarded());
  EXPECT_TRUE(Produce({Topic("__orders-dlq", {{0, good_}})}).forwarded()) << "no topic of Kafka's own";
  const UnselectedWrites::Report report = shared_->unselectedWrites.report();
  ASSERT_EQ(report.topics.size(), 2u);
  EXPECT_EQ(report.topics[0].name, "__orders-dlq");
  EXPECT_EQ(report.topics[1].name, "free");
  EXPECT_NE(metrics_.Text().find("kveil_unselected_writes_total 2"), std::string::npos);
}

TEST_F(UnselectedTopicsTest, CgroupsBelowAWorkloadAreTheSameWorkload) {
  const auto useCgroup = [this](const std::string& cgroupPath, const std::string& share) {
    connection_.workload.cgroupPath = cgroupPath;
    connection_.workload.share = share;
    guard_ = NewConnection();
  };
  const auto topics = [this] { return shared_->unselectedWrites.report().topics.size(); };
  shared_->unselectedWrites.NoteRead("/pods/burstable/pod1", Clock::now());
  useCgroup("/pods/burstable/pod2/writer", "/pods/burstable/pod2");
  EXPECT_TRUE(Produce({Topic("free", {{0, good_}})}).forwarded());
  EXPECT_EQ(topics(), 0u);
  useCgroup("/pods/burstable/pod1/writer", "/pods/burstable/pod1");
  EXPECT_TRUE(Produce({Topic("free", {{0, good_}})}).forwarded());
  EXPECT_EQ(topics(), 1u);
}

TEST_F(UnselectedTopicsTest, AWorkloadHasReadAProtectedTopicWhenSomethingWasOpenedForIt) {
  connection_.workload.share = "/streams";
  RecordsOpener opener(*shared_, *scratch_, *loop_, connection_);
  const ByteBuffer sealed = Sealed(ProducedBatch({ClickOf("anna")}));
  RecordsOpener::Partition partition;
  partition.records = sealed;
  partition.topicName = "clicks";
  partition.topic = policy_->Find("clicks");
  RecordsOpener::Response response;
  response.keyDeadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  proxy::BufferShelf shelf;
  proxy::MemoryBudget budget(size_t{1} << 20);
  proxy::Arena arena(shelf, budget);
  EXPECT_FALSE(shared_->unselectedWrites.NoteWrite("/streams", "free", Clock::now()));
  EXPECT_TRUE(Await(opener.Open(partition, response, arena)).changed);
  EXPECT_TRUE(shared_->unselectedWrites.NoteWrite("/streams", "free", Clock::now()));
}

}  // namespace
}  // namespace kveil::guard
