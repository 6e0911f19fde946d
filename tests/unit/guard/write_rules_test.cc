// Who may write which records, and what a producer hears of the others.
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "absl/time/clock.h"

#include "produce_fixture.h"

namespace kveil::guard {
namespace {

class WriteRulesTest : public ProduceGuardTest {
 protected:
  // The topic "clicks" with this list as `write`.
  void UseWriters(const std::string& write, const std::string& user = R"({"value": "/user"})") {
    UsePolicyFile(R"({"purposes": ["marketing"], "topics": [{"name": "clicks", "seal": {"scope": "user", "user": )" +
                  user + R"(}, "read": [{"any": true}], "write": )" + write + R"(},
                  {"name": "readonly", "read": [{"any": true}], "write": )" +
                  "[]}]}");
  }
  void UseWhere(const std::string& where, const std::string& user = R"({"value": "/user"})") {
    UseWriters(R"([{"workload": {"unit": "other.service"}}, {"any": true, "where": )" + where + "}]", user);
  }
  // The places of the records that are refused, of a batch that is; empty when it was forwarded.
  std::vector<int32_t> Refused(std::vector<TestRecord> records) {
    const RequestResult result = Produce({Topic("clicks", {{0, ProducedBatch(std::move(records))}})});
    if (!AllRefused(result)) return {};
    const ProduceResponse response = Refusals(result);
    const ProduceResponse::Partition& partition = response.responses.at(0).partitionResponses.at(0);
    EXPECT_EQ(partition.errorCode, ErrorCode::kInvalidRecord);
    EXPECT_EQ(partition.errorMessage, "kveil: no entry of \"write\" lets the workload write this record");
    std::vector<int32_t> places;
    for (const auto& error : partition.recordErrors) places.push_back(error.batchIndex);
    return places;
  }
  using Places = std::vector<int32_t>;
};

TEST_F(WriteRulesTest, RefuseTheTopicToWhomNoEntryFits) {
  UseWriters(R"([{"workload": {"unit": "other.service"}}])");
  const RequestResult result = Produce({Topic("clicks", {{0, good_}}), Topic("readonly", {{0, good_}})});
  ASSERT_TRUE(AllRefused(result));
  const int code = static_cast<int>(ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(Lines(Refusals(result)),
            (std::vector<std::string>{StrCat("clicks/0 ", code, " -1"), StrCat("readonly/0 ", code, " -1")}))
      << "also where nothing is sealed";
}

TEST_F(WriteRulesTest, LetThroughWhomAnEntryFits) {
  UseWriters(R"([{"workload": {"unit": "other.service"}}, {"workload": {"unit": "reader.service"}}])");
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, good_}})})), 0);
}

TEST_F(WriteRulesTest, RefuseNobodyWithoutTheList) {
  UseTopics(kProduceTopics);
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, good_}})})), 0);
}

TEST_F(WriteRulesTest, NameTheRecordsThatMayNotBeWritten) {
  UseWhere(R"({"users": ["anna", "bert"]})");
  EXPECT_EQ(Refused({ClickOf("anna"), ClickOf("bert")}), Places());
  EXPECT_EQ(Refused({ClickOf("anna"), ClickOf("carl"), ClickOf("bert"), ClickOf("dora")}), Places({1, 3}));
}

TEST_F(WriteRulesTest, LookIntoHeadersAndValues) {
  UseWhere(R"({"header": {"name": "region", "equals": "eu"}, "value": {"pointer": "/page", "equals": "/home"}})");
  TestRecord good = ClickOf("anna");
  good.headers = {{"region", "eu"}};
  TestRecord twice = good;
  twice.headers.emplace_back("region", "us");
  TestRecord other = good;
  other.value = R"({"user": "anna", "page": "/x"})";
  EXPECT_EQ(Refused({good}), Places());
  EXPECT_EQ(Refused({good, ClickOf("anna"), twice, other}), Places({1, 2, 3}));
}

TEST_F(WriteRulesTest, AskTheConsentOfWhoseRecordItIs) {
  UseWhere(R"({"consent": "marketing"})");
  EXPECT_EQ(Refused({ClickOf("anna")}), Places({0})) << "nothing is known of anybody";
}

TEST_F(WriteRulesTest, ForgetAConsentThatEndsWhileAKeyIsWaitedFor) {
  UseWhere(R"({"consent": "marketing"})");
  shared_->limits.keyTimeout = std::chrono::seconds(60);
  const absl::Time until = absl::Now() + absl::Milliseconds(100);
  const keys::UserChange granted[] = {{"anna", "clicks", {.name = "marketing", .until = until}}};
  ASSERT_TRUE(service_->ChangeUsers(granted, 0).ok());
  auto locked = std::make_unique<LockedRegistry>(registryFile());
  std::thread waiting([&] {
    while (absl::Now() <= until) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    locked.reset();
  });
  EXPECT_EQ(Refused({ClickOf("anna")}), Places({0}));
  waiting.join();
}

// It deletes what readers have of a user: that is writing, too.
TEST_F(WriteRulesTest, GiveTombstonesToTheUserThatTheirKeyNames) {
  UseWhere(R"({"users": ["anna"]})", R"({"key": true})");
  EXPECT_EQ(Refused({Record("anna", std::nullopt), Record("anna", "x")}), Places());
  EXPECT_EQ(Refused({Record("anna", std::nullopt), Record("bert", std::nullopt)}), Places({1}));
  UseWhere(R"({"value": {"pointer": "/page", "equals": "/home"}})", R"({"key": true})");
  EXPECT_EQ(Refused({Record("anna", std::nullopt)}), Places({0}));
}

// A pass does not suspend, so others would wait while expressions are tried for minutes.
TEST_F(WriteRulesTest, RefuseWorkWithoutABound) {
  std::string entries;
  for (size_t i = 0; i < policy::kMostPatterns; ++i) {
    entries += StrCat(i == 0 ? "" : ",",
                      R"({"any": true, "where": {"header": {"name": "region", "matches": "[a-z]{0,200}"}}})");
  }
  UseWriters("[" + entries + "]");
  TestRecord record = ClickOf("anna");
  record.headers = {{"region", std::string(1000, 'x')}};
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, ProducedBatch({record})}})})), 87);
  const std::vector<TestRecord> many(1000, record);
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, ProducedBatch(many)}})})),
            static_cast<int>(ErrorCode::kMessageTooLarge));
}

}  // namespace
}  // namespace kveil::guard
