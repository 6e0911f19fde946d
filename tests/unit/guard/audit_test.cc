// What guards tell the audit trail: who read and wrote how much, by which entry, and whose it was.
#include "guard/stages/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guard/apis/fetch_guard.h"
#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using audit::Access;
using audit::Counted;
using audit::Use;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class AuditOfGuardsTest : public ProduceGuardTest {
 protected:
  static constexpr char kAuditedTopics[] = R"(
      {"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "audit": {"users": true},
       "read": [{"workload": {"unit": "other.service"}}, {"any": true}]},
      {"name": "rules", "seal": {"scope": "user", "user": {"value": "/user"}}, "audit": {"users": true},
       "read": [{"any": true, "where": {"users": ["anna"]}}, {"any": true, "where": {"value": {"pointer": "/user", "equals": "bert"}}}],
       "write": [{"any": true, "where": {"users": ["bert", "carl"]}}, {"any": true, "where": {"users": ["anna"]}}]},
      {"name": "orders", "seal": {"scope": "topic"}, "audit": {"users": true}, "read": [{"any": true}]},
      {"name": "plain", "read": [{"any": true}]},
      {"name": "strict", "seal": {"scope": "user", "user": {"value": "/user"}}, "onDenied": "error",
       "read": [{"any": true, "where": {"users": ["anna"]}}]},
      {"name": "closed", "seal": {"scope": "topic"}, "read": [], "write": []})";

  AuditOfGuardsTest() {
    UseTopics(kAuditedTopics);
    guard_ = NewConnection();
    scratch_->audit = &tally_;
  }

  // Produces the records, and gives what went to the broker.
  ByteBuffer Produced(std::string_view topic, std::vector<TestRecord> records) {
    const ByteBuffer batch = ProducedBatch(std::move(records));
    const RequestResult result = Produce({Topic(topic, {{0, batch}})});
    const auto request = WrittenRequest<ProduceRequest>(result.written, 9);
    EXPECT_THAT(request.topicData, SizeIs(1));
    if (request.topicData.empty()) return {};
    const Bytes bytes = *request.topicData[0].partitionData.at(0).records;
    return Padded(ByteBuffer(bytes.begin(), bytes.end()));
  }
  void Fetched(std::string_view topic, const ByteBuffer& records) {
    FetchGuard guard(Context());
    kafka::FetchRequest request;
    request.maxBytes = 50 << 20;
    kafka::FetchRequest::Topic& asked = request.topics.emplace_back();
    asked.topic = topic;
    asked.partitions.emplace_back().partitionMaxBytes = 8 << 20;
    const RequestResult sent = Request(guard, 12, request);
    kafka::FetchResponse response;
    kafka::FetchResponse::Topic& answered = response.responses.emplace_back();
    answered.topic = topic;
    answered.partitions.emplace_back().records = Bytes(records);
    (void)Response(guard, 12, response, sent.verdict.state.get());
  }
  // One line for each use: topic, access, entry, counts, and how many users.
  std::vector<std::string> Told() {
    std::vector<std::string> lines;
    const audit::AllCounted taken = tally_.Take();
    for (const auto& [use, counted] : taken) {
      EXPECT_EQ(counted.name, "reader.service");
      EXPECT_EQ(use.cluster, "main");
      EXPECT_EQ(use.file, policyFolder() + "/policy.json");
      uint64_t ofUsers = 0;
      for (const auto& [key, count] : counted.users) ofUsers += count;
      const audit::Counts& counts = counted.counts;
      lines.push_back(StrCat(use.topic, use.access == Access::kRead ? " read by " : " written by ", use.entry, ": ",
                             counts.records, " records of ", counted.users.size(), " users (", ofUsers, "), ",
                             counts.leftOut, " left out, ", counts.erased, " erased, ", counts.plaintext, " plain, ",
                             counts.refused, " refused, ", counts.denials, " denials"));
    }
    return lines;
  }
  static std::string Said(const std::string& what, uint64_t records, uint64_t users, const std::string& more = "") {
    const std::string rest = more.empty() ? "0 left out, 0 erased, 0 plain, 0 refused, 0 denials" : more;
    return StrCat(what, ": ", records, " records of ", users, " users (", users == 0 ? 0 : records, "), ", rest);
  }

  audit::Tally tally_;
};

TEST_F(AuditOfGuardsTest, CountRecordsAndUsersInBothDirections) {
  const ByteBuffer sealed = Produced("clicks", {ClickOf("anna"), ClickOf("bert"), ClickOf("anna")});
  EXPECT_THAT(Told(), UnorderedElementsAre(Said("clicks written by 0", 3, 2)));
  Fetched("clicks", sealed);
  Fetched("clicks", sealed);
  EXPECT_THAT(Told(), UnorderedElementsAre(Said("clicks read by 2", 6, 2)));
  EXPECT_THAT(Told(), IsEmpty());
}

TEST_F(AuditOfGuardsTest, NameTheEntryThatLetsEachRecordThrough) {
  const ByteBuffer sealed = Produced("rules", {ClickOf("anna"), ClickOf("bert"), ClickOf("carl"), ClickOf("anna")});
  EXPECT_THAT(Told(), UnorderedElementsAre(Said("rules written by 1", 2, 2), Said("rules written by 2", 2, 1)));
  Fetched("rules", sealed);
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("rules read by 1", 2, 1), Said("rules read by 2", 1, 1),
                          Said("rules read by 0", 0, 0, "1 left out, 0 erased, 0 plain, 0 refused, 0 denials")));
}

TEST_F(AuditOfGuardsTest, CountNoUsersWhereTheKeyIsTheTopics) {
  const ByteBuffer sealed = Produced("orders", {ClickOf("anna")});
  Fetched("orders", sealed);
  EXPECT_THAT(Told(), UnorderedElementsAre(Said("orders written by 0", 1, 0), Said("orders read by 1", 1, 0)));
}

TEST_F(AuditOfGuardsTest, CountPlaintextAndErasedRecordsApart) {
  const ByteBuffer sealed = Produced("clicks", {ClickOf("anna"), ClickOf("bert")});
  Erase("anna");
  (void)Told();
  Fetched("clicks", sealed);
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("clicks read by 2", 1, 1, "0 left out, 1 erased, 0 plain, 0 refused, 0 denials")));
  Fetched("plain", ProducedBatch({ClickOf("anna")}));
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("plain read by 1", 0, 0, "0 left out, 0 erased, 1 plain, 0 refused, 0 denials")));
}

TEST_F(AuditOfGuardsTest, CountDenialsAndRefusals) {
  const RequestResult denied = Produce({Topic("closed", {{0, good_}}), Topic("clicks", {{0, bad_}})});
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("closed written by 0", 0, 0, "0 left out, 0 erased, 0 plain, 2 refused, 1 denials"),
                          Said("clicks written by 0", 0, 0, "0 left out, 0 erased, 0 plain, 2 refused, 0 denials")));
  // A batch may claim any number of records.
  ByteBuffer forged(good_.begin(), good_.end());
  forged[kafka::kBatchHeaderSize - 4] = 0x7f;
  (void)Produce({Topic("closed", {{0, forged}})});
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("closed written by 0", 0, 0,
                               StrCat("0 left out, 0 erased, 0 plain, ", forged.size(), " refused, 1 denials"))));
  Fetched("closed", good_);
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("closed read by 0", 0, 0, "0 left out, 0 erased, 0 plain, 0 refused, 1 denials")));
}

TEST_F(AuditOfGuardsTest, CountAnErrorInPlaceOfARecordAsADenial) {
  const ByteBuffer sealed = Produced("strict", {ClickOf("bert"), ClickOf("anna")});
  EXPECT_THAT(Told(), SizeIs(1));
  Fetched("strict", sealed);
  EXPECT_THAT(Told(), UnorderedElementsAre(
                          Said("strict read by 0", 0, 0, "0 left out, 0 erased, 0 plain, 0 refused, 1 denials")));
}

TEST_F(AuditOfGuardsTest, NeverCountABatchThatWaitsForItsKeysTwice) {
  const ByteBuffer sealed = Produced("clicks", {ClickOf("anna"), ClickOf("bert")});
  EXPECT_THAT(Told(), SizeIs(1));
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  scratch_->audit = &tally_;
  guard_.reset();  // of the scratch that was
  Fetched("clicks", sealed);
  EXPECT_THAT(Told(), UnorderedElementsAre(Said("clicks read by 2", 2, 2)));
}

TEST(AuditCountsTest, CountsOfManyEntriesAreKeptWithoutSayingWhich) {
  AuditCounts counts;
  for (uint32_t entry = 0; entry < 2 * AuditCounts::kMostEntries; ++entry) {
    EXPECT_EQ(counts.Add(entry), entry < AuditCounts::kMostEntries ? entry : AuditCounts::kNoEntry);
  }
  EXPECT_EQ(counts.entries, AuditCounts::kMostEntries);
}

TEST(AuditCountsTest, UsersOfAnEntryForWhichThereIsNoRoomAreCountedWithItsRecords) {
  AuditCounts counts, more;
  for (uint32_t entry = 0; entry < AuditCounts::kMostEntries; ++entry) (void)counts.Add(entry);
  for (const uint32_t entry : {3u, 20u}) more.users.emplace_back(more.Add(entry), crypto::KeyId());
  counts.Add(more);
  ASSERT_EQ(counts.users.size(), 2u);
  EXPECT_EQ(counts.users[0].first, 3u);
  EXPECT_EQ(counts.users[1].first, AuditCounts::kNoEntry);
}

}  // namespace
}  // namespace kveil::guard
