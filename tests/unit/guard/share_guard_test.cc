// Share groups: what a member gets, and that nothing it does not get is given up for the whole group.
#include "guard/apis/share_guard.h"

#include <gtest/gtest.h>

#include "guard/apis/share_acknowledge_guard.h"
#include "guard/stages/transform.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ShareFetchRequest;
using kafka::ShareFetchResponse;

constexpr int16_t kShareFetchVersion = 2;
constexpr int32_t kFinal = -1;
constexpr uint8_t kClicks = 1, kPrivate = 2, kFree = 3, kUnheardOf = 9;

class ShareGuardTest : public InterceptorTest {
 protected:
  ShareGuardTest() {
    UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]},
                 {"name": "private", "seal": {"scope": "topic"}, "read": [{"workload": {"unit": "other.service"}}]})");
    shared_->topicNames.Learn(Id(kClicks), "clicks", connection_);
    shared_->topicNames.Learn(Id(kPrivate), "private", connection_);
    shared_->topicNames.Learn(Id(kFree), "free", connection_);
    guard_ = std::make_unique<ShareGuard>(Context());
  }

  static ShareFetchRequest RequestFor(std::vector<uint8_t> topics, int32_t epoch = 0) {
    ShareFetchRequest request;
    request.groupId = "group";
    request.memberId = "member";
    request.maxBytes = 50 << 20;
    request.shareSessionEpoch = epoch;
    for (const uint8_t number : topics) {
      ShareFetchRequest::Topic& topic = request.topics.emplace_back();
      topic.topicId = Id(number);
      topic.partitions.emplace_back().partitionIndex = 4;
    }
    return request;
  }
  // The broker hands these records of one partition out, all acquired.
  // How many topics the agent adds to the broker's answer to a request.
  size_t RefusedIn(const RequestResult& asked) {
    const ShareFetchResponse empty;
    const ResponseResult answer = Response(*guard_, kShareFetchVersion, empty, asked.verdict.state.get());
    return answer.rewritten() ? WrittenResponse<ShareFetchResponse>(answer.written, kShareFetchVersion).responses.size()
                              : 0;
  }

  static ShareFetchResponse ResponseOf(uint8_t topicNumber, Bytes records, int64_t first, int64_t last) {
    ShareFetchResponse response;
    response.acquisitionLockTimeoutMs = 900;
    ShareFetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topicId = Id(topicNumber);
    ShareFetchResponse::Partition& partition = topic.partitions.emplace_back();
    partition.partitionIndex = 4;
    partition.records = records;
    ShareFetchResponse::AcquiredRecords& acquired = partition.acquiredRecords.emplace_back();
    acquired.firstOffset = first;
    acquired.lastOffset = last;
    acquired.deliveryCount = 1;
    return response;
  }
  ShareFetchResponse::Partition Guarded(const ShareFetchResponse& response, int16_t version = kShareFetchVersion) {
    const ResponseResult answer = Response(*guard_, version, response);
    EXPECT_TRUE(answer.rewritten());
    if (!answer.rewritten()) return {};
    return WrittenResponse<ShareFetchResponse>(answer.written, version).responses.at(0).partitions.at(0);
  }
  ByteBuffer SealedClicks(std::vector<std::string> users, int64_t baseOffset = 0) {
    std::vector<TestRecord> records;
    for (const std::string& user : users) records.push_back(ClickOf(user));
    TestBatch batch;
    batch.baseOffset = baseOffset;
    const ByteBuffer produced = ProducedBatch(std::move(records), kafka::Codec::kNone, batch);
    return Sealed(TaskToSeal(produced, "clicks"));
  }
  static ByteBuffer Tampered(const ByteBuffer& sealed, int64_t baseOffset) {
    std::vector<TestRecord> records = Read(sealed).records;
    records.at(0).value->front() ^= 1;
    TestBatch fields;
    fields.baseOffset = baseOffset;
    return ProducedBatch(records, kafka::Codec::kNone, fields);
  }
  static std::vector<std::pair<int64_t, int64_t>> Acquired(const ShareFetchResponse::Partition& partition) {
    std::vector<std::pair<int64_t, int64_t>> ranges;
    for (const auto& range : partition.acquiredRecords) ranges.emplace_back(range.firstOffset, range.lastOffset);
    return ranges;
  }

  std::unique_ptr<ShareGuard> guard_;
};

TEST_F(ShareGuardTest, OpensWhatAMemberMayRead) {
  for (const int16_t version : {0, 1, 2}) {
    const RequestResult asked = Request(*guard_, version, RequestFor({kClicks, kFree}));
    EXPECT_TRUE(asked.forwarded());
    EXPECT_TRUE(asked.wantsResponse());
    const auto opened = Guarded(ResponseOf(kClicks, SealedClicks({"anna", "bert"}), 0, 1), version);
    EXPECT_EQ(Read(*opened.records).records.at(1).value, Click("bert"));
    EXPECT_EQ(Acquired(opened), (std::vector<std::pair<int64_t, int64_t>>{{0, 1}}));
  }
}

TEST_F(ShareGuardTest, PassesTopicsWithoutAPolicyAsTheyCame) {
  const ByteBuffer clear = ProducedBatch({ClickOf("anna")});
  EXPECT_TRUE(Response(*guard_, kShareFetchVersion, ResponseOf(kFree, clear, 0, 0)).forwarded());
  EXPECT_TRUE(Response(*guard_, kShareFetchVersion, ResponseOf(kClicks, {}, 0, 0)).forwarded());
}

// A record that is left out would count as consumed by the group.
TEST_F(ShareGuardTest, MasksWhatIsHiddenWhateverThePolicySays) {
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}],
                "onErased": "drop", "plaintext": "drop"})");
  const ByteBuffer sealed = SealedClicks({"anna", "bert"});
  Erase("anna");
  const ReadBatch masked = Read(*Guarded(ResponseOf(kClicks, sealed, 0, 1)).records);
  ASSERT_EQ(masked.records.size(), 2u);
  EXPECT_EQ(masked.records.at(0).value, "");
  EXPECT_EQ(masked.records.at(0).headers.at(0).first, kMaskedHeaderName);
  EXPECT_EQ(masked.records.at(1).value, Click("bert"));
  const ReadBatch plain = Read(*Guarded(ResponseOf(kClicks, ProducedBatch({ClickOf("anna")}), 0, 0)).records);
  ASSERT_EQ(plain.records.size(), 1u);
  EXPECT_EQ(plain.records.at(0).value, "");
}

// What one member may not have, another may.
TEST_F(ShareGuardTest, RefusesATopicWhoseRulesWouldLeaveRecordsOut) {
  const auto withRules = [](const std::string& more) {
    return R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}},
               "read": [{"any": true, "where": {"users": ["anna"]}}])" +
           more + "}";
  };
  UseTopics(withRules(""));
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}))), 1u);
  const auto refused = Guarded(ResponseOf(kClicks, SealedClicks({"anna", "bert"}), 0, 1));
  EXPECT_EQ(refused.errorCode, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_TRUE(!refused.records.has_value() || refused.records->empty());
  UseTopics(withRules(R"(, "onDenied": "mask")"));
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}))), 0u);
  const auto masked = Guarded(ResponseOf(kClicks, SealedClicks({"anna", "bert"}), 0, 1));
  const ReadBatch read = Read(*masked.records);
  ASSERT_EQ(read.records.size(), 2u);
  EXPECT_EQ(read.records.at(0).value, Click("anna"));
  EXPECT_EQ(read.records.at(1).value, "");
  EXPECT_EQ(read.records.at(1).headers.at(0).second, "denied");
  EXPECT_EQ(Acquired(masked), (std::vector<std::pair<int64_t, int64_t>>{{0, 1}}));
}

TEST_F(ShareGuardTest, GivesOthersInTheFormThatThePolicyChoosesUnlessThatIsNone) {
  const auto withRules = [](const std::string& onDenied) {
    return R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}},
               "read": [{"any": true, "where": {"users": ["anna"]}}], "onDenied": )" +
           onDenied + "}";
  };
  UseTopics(withRules("\"error\""));
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}))), 1u);
  const ByteBuffer sealed = SealedClicks({"anna", "bert"});
  const auto valueOfOthers = [&](const std::string& onDenied) {
    UseTopics(withRules(onDenied));
    EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}))), 0u);
    return Read(*Guarded(ResponseOf(kClicks, sealed, 0, 1)).records).records.at(1).value;
  };
  EXPECT_EQ(valueOfOthers("\"null\""), std::nullopt);
  EXPECT_EQ(valueOfOthers(R"({"mask": 0})"), "0");
  EXPECT_EQ(valueOfOthers("\"sealed\""), Read(sealed).records.at(1).value);
}

TEST_F(ShareGuardTest, MasksTheRecordsOfThoseWhoDoNotConsent) {
  const auto withRules = [](const std::string& more) {
    return R"({"purposes": ["marketing"], "topics": [{"name": "clicks", "seal": {"scope": "user", "user":
               {"value": "/user"}}, "read": [{"any": true, "where": {"consent": "marketing"}}])" +
           more + "}]}";
  };
  UsePolicyFile(withRules(""));
  const ByteBuffer sealed = SealedClicks({"anna", "bert"});
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}))), 1u);
  UsePolicyFile(withRules(R"(, "onDenied": "mask")"));
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}))), 0u);
  const keys::UserChange granted[] = {{"anna", "clicks", {.name = "marketing"}}};
  EXPECT_TRUE(service_->ChangeUsers(granted, 0).ok());
  const auto masked = Guarded(ResponseOf(kClicks, sealed, 0, 1));
  const ReadBatch read = Read(*masked.records);
  ASSERT_EQ(read.records.size(), 2u);
  EXPECT_EQ(read.records.at(0).value, Click("anna"));
  EXPECT_EQ(read.records.at(1).value, "");
  EXPECT_EQ(read.records.at(1).headers.at(0).second, "denied");
  EXPECT_EQ(Acquired(masked), (std::vector<std::pair<int64_t, int64_t>>{{0, 1}}));
}

TEST_F(ShareGuardTest, RefusesATopicBeforeTheBrokerHandsAnythingOut) {
  ShareFetchRequest request = RequestFor({kClicks, kPrivate});
  request.topics[1].partitions[0].acknowledgementBatches.emplace_back();
  const RequestResult asked = Request(*guard_, kShareFetchVersion, request);
  ASSERT_TRUE(asked.rewritten());
  const auto forwarded = WrittenRequest<ShareFetchRequest>(asked.written, kShareFetchVersion);
  ASSERT_EQ(forwarded.topics.size(), 1u);
  EXPECT_EQ(forwarded.topics[0].topicId, Id(kClicks));
  const ResponseResult answer = Response(*guard_, kShareFetchVersion, ResponseOf(kClicks, SealedClicks({"anna"}), 0, 0),
                                         asked.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  const auto merged = WrittenResponse<ShareFetchResponse>(answer.written, kShareFetchVersion);
  ASSERT_EQ(merged.responses.size(), 2u);
  EXPECT_EQ(Read(*merged.responses[0].partitions.at(0).records).records.at(0).value, Click("anna"));
  EXPECT_EQ(merged.responses[1].topicId, Id(kPrivate));
  EXPECT_EQ(merged.responses[1].partitions.at(0).partitionIndex, 4);
  EXPECT_EQ(merged.responses[1].partitions.at(0).errorCode, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(merged.responses[1].partitions.at(0).acknowledgeErrorCode, ErrorCode::kTopicAuthorizationFailed);
}

// The broker's own word counts: share groups may be disabled, or the group not the client's.
TEST_F(ShareGuardTest, LetsTheBrokerAnswerWhereNothingIsLeft) {
  RequestResult asked = Request(*guard_, kShareFetchVersion, RequestFor({kPrivate}, 0));
  ShareFetchResponse disabled;
  disabled.errorCode = ErrorCode::kUnsupportedVersion;
  EXPECT_TRUE(Response(*guard_, kShareFetchVersion, disabled, asked.verdict.state.get()).forwarded());
  const auto start = std::chrono::steady_clock::now();
  asked = Request(*guard_, kShareFetchVersion, RequestFor({kPrivate}, 0));
  const auto answer = AnswerToNothing<ShareFetchRequest, ShareFetchResponse>(*guard_, asked, kShareFetchVersion);
  ASSERT_EQ(answer.responses.size(), 1u);
  EXPECT_EQ(answer.responses[0].partitions.at(0).errorCode, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(answer.responses[0].partitions.at(0).acknowledgeErrorCode, ErrorCode::kNone);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(990)) << "it would ask again at once";
}

TEST_F(ShareGuardTest, RefusesATopicThatTheBrokerCannotName) {
  const RequestResult asked = Request(*guard_, kShareFetchVersion, RequestFor({kUnheardOf}));
  EXPECT_EQ(upstream_.asked.size(), 1u);
  const auto answer = AnswerToNothing<ShareFetchRequest, ShareFetchResponse>(*guard_, asked, kShareFetchVersion);
  EXPECT_EQ(answer.responses.at(0).partitions.at(0).errorCode, ErrorCode::kUnknownTopicId);
}

// A request of a session names only what is new; a broker repeats an error with each answer, until it is mended.
TEST_F(ShareGuardTest, RepeatsInASessionWhatItRefusesAndTellsTheBrokerOnceItMayBeRead) {
  Request(*guard_, kShareFetchVersion, RequestFor({kPrivate, kFree}, 0));
  const RequestResult next = Request(*guard_, kShareFetchVersion, RequestFor({}, 1));
  ASSERT_TRUE(next.forwarded());
  const ByteBuffer clear = ProducedBatch({ClickOf("anna")});
  const auto answer = WrittenResponse<ShareFetchResponse>(
      Response(*guard_, kShareFetchVersion, ResponseOf(kFree, clear, 0, 0), next.verdict.state.get()).written,
      kShareFetchVersion);
  ASSERT_EQ(answer.responses.size(), 2u);
  EXPECT_EQ(answer.responses[1].topicId, Id(kPrivate));
  EXPECT_EQ(answer.responses[1].partitions.at(0).errorCode, ErrorCode::kTopicAuthorizationFailed);

  UseTopics(R"({"name": "private", "seal": {"scope": "topic"}, "read": [{"any": true}]})");
  const RequestResult allowed = Request(*guard_, kShareFetchVersion, RequestFor({}, 2));
  ASSERT_TRUE(allowed.rewritten());
  const auto told = WrittenRequest<ShareFetchRequest>(allowed.written, kShareFetchVersion);
  ASSERT_EQ(told.topics.size(), 1u);
  EXPECT_EQ(told.topics[0].topicId, Id(kPrivate));
  EXPECT_EQ(told.topics[0].partitions.at(0).partitionIndex, 4);
  EXPECT_EQ(RefusedIn(allowed), 0u);
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 3)).forwarded());
}

// The broker would go on handing its records to this member, and give them up after some tries.
TEST_F(ShareGuardTest, HasTheBrokerForgetWhatMayNotBeReadAnyMore) {
  for (const bool isNamed : {false, true}) {
    UseTopics(R"({"name": "private", "seal": {"scope": "topic"}, "read": [{"any": true}]})");
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({kPrivate, kFree}, 0)).forwarded());
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 1)).forwarded());
    UseTopics(R"({"name": "private", "seal": {"scope": "topic"}, "read": [{"workload": {"unit": "other.service"}}]})");
    const RequestResult denied =
        Request(*guard_, kShareFetchVersion, RequestFor(isNamed ? std::vector{kPrivate} : std::vector<uint8_t>{}, 2));
    ASSERT_TRUE(denied.rewritten());
    const auto told = WrittenRequest<ShareFetchRequest>(denied.written, kShareFetchVersion);
    EXPECT_TRUE(told.topics.empty());
    ASSERT_EQ(told.forgottenTopicsData.size(), 1u);
    EXPECT_EQ(told.forgottenTopicsData[0].topicId, Id(kPrivate));
    EXPECT_EQ(told.forgottenTopicsData[0].partitions, std::vector<int32_t>{4});
    const ByteBuffer sealed = ProducedBatch({ClickOf("anna")});
    const auto answer = WrittenResponse<ShareFetchResponse>(
        Response(*guard_, kShareFetchVersion, ResponseOf(kPrivate, sealed, 0, 0), denied.verdict.state.get()).written,
        kShareFetchVersion);
    ASSERT_EQ(answer.responses.size(), 1u);
    ASSERT_EQ(answer.responses[0].partitions.size(), 1u) << "the broker's and the agent's";
    EXPECT_EQ(answer.responses[0].partitions[0].errorCode, ErrorCode::kTopicAuthorizationFailed);
    const RequestResult next = Request(*guard_, kShareFetchVersion, RequestFor({}, 3));
    EXPECT_TRUE(next.forwarded()) << "it is told once";
    EXPECT_EQ(RefusedIn(next), 1u);
  }
}

TEST_F(ShareGuardTest, ForgetsWhatItRefusedWithTheSessionAndWithThePartition) {
  Request(*guard_, kShareFetchVersion, RequestFor({kPrivate}, 0));
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kFree}, 0))), 0u) << "a new session";
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({kPrivate}, 1))), 1u);
  ShareFetchRequest forgetting = RequestFor({}, 2);
  ShareFetchRequest::ForgottenTopic& topic = forgetting.forgottenTopicsData.emplace_back();
  topic.topicId = Id(kPrivate);
  topic.partitions = {4};
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, forgetting)), 0u);
  EXPECT_EQ(RefusedIn(Request(*guard_, kShareFetchVersion, RequestFor({}, 3))), 0u);
}

// However often a client asks for more of them: what is remembered is looked at with each request.
TEST_F(ShareGuardTest, RepeatsNoMoreThanAMemberHasPartitions) {
  for (int32_t request = 0; request < 4; ++request) {
    ShareFetchRequest asking = RequestFor({kPrivate}, request);
    asking.topics[0].partitions.resize(3'000);
    for (int32_t i = 0; i < 3'000; ++i) {
      asking.topics[0].partitions[static_cast<size_t>(i)].partitionIndex = request * 3'000 + i;
    }
    const RequestResult asked = Request(*guard_, kShareFetchVersion, asking);
    EXPECT_GE(asked.verdict.state->bytes(), 3'000 * sizeof(ShareFetchResponse::Partition)) << "what is owed counts";
    const auto answer = WrittenResponse<ShareFetchResponse>(
        Response(*guard_, kShareFetchVersion, ShareFetchResponse(), asked.verdict.state.get()).written,
        kShareFetchVersion);
    EXPECT_GE(answer.responses.at(0).partitions.size(), 3'000u) << "it hears of each at least once";
    EXPECT_LE(answer.responses.at(0).partitions.size(), 3'000u + ShareSession::kMost);
  }
  EXPECT_GT(budget_.used(), 0u);
  EXPECT_LE(budget_.used(), 256u << 10);
  Request(*guard_, kShareFetchVersion, RequestFor({}, kFinal));
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(ShareGuardTest, RemembersNoMoreRefusalsThanAConnectionMayBeOwed) {
  ShareFetchRequest asking = RequestFor({kPrivate}, 0);
  asking.topics[0].partitions.resize(100'000);
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, asking).closed());
}

TEST_F(ShareGuardTest, LetsAMemberEndItsSessionWithADeniedTopic) {
  Request(*guard_, kShareFetchVersion, RequestFor({kPrivate}, 0));
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({kPrivate}, kFinal)).forwarded());
}

TEST_F(ShareGuardTest, GivesNothingOfATopicThatWasDeniedMeanwhile) {
  for (const uint8_t topic : {kPrivate, kUnheardOf}) {
    const auto denied = Guarded(ResponseOf(topic, ProducedBatch({ClickOf("anna")}), 0, 0));
    EXPECT_NE(denied.errorCode, ErrorCode::kNone);
    EXPECT_TRUE(denied.records->empty());
    EXPECT_TRUE(denied.acquiredRecords.empty()) << "acknowledged, it would be gone for the group";
  }
}

TEST_F(ShareGuardTest, TakesBackWhatLiesBehindABatchThatDoesNotOpen) {
  ByteBuffer records = SealedClicks({"anna", "bert"}, 10);
  const ByteBuffer forged = Tampered(SealedClicks({"anna"}), 12);
  records.insert(records.end(), forged.begin(), forged.end());
  const auto guarded = Guarded(ResponseOf(kClicks, Padded(records), 10, 12));
  EXPECT_EQ(guarded.errorCode, ErrorCode::kNone);
  EXPECT_EQ(Read(*guarded.records).records.size(), 2u);
  EXPECT_EQ(Acquired(guarded), (std::vector<std::pair<int64_t, int64_t>>{{10, 11}}));

  const auto nothing = Guarded(ResponseOf(kClicks, forged, 12, 12));
  EXPECT_TRUE(nothing.records->empty());
  EXPECT_TRUE(nothing.acquiredRecords.empty());
}

TEST_F(ShareGuardTest, WaitsForKeysAndTakesBackWhatTheyDoNotComeFor) {
  const ByteBuffer sealed = SealedClicks({"anna"});
  Advance(std::chrono::minutes(5));  // what the worker has cached is too old now
  shared_->limits.keyTimeout = std::chrono::milliseconds(10);
  {
    const MissingRegistry missing(registryFile());
    const auto start = std::chrono::steady_clock::now();
    const auto nothing = Guarded(ResponseOf(kClicks, sealed, 0, 0));
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(600)) << "two thirds of the lock";
    EXPECT_TRUE(nothing.records->empty());
    EXPECT_TRUE(nothing.acquiredRecords.empty());
  }
  EXPECT_EQ(Read(*Guarded(ResponseOf(kClicks, sealed, 0, 0)).records).records.at(0).value, Click("anna"));
}

// Each time that a record is handed out and not read counts, and after five it is given up for the group.
TEST_F(ShareGuardTest, AsksForNothingMoreWhileKeysCannotBeReached) {
  const ByteBuffer sealed = SealedClicks({"anna"});
  Advance(std::chrono::minutes(5));
  shared_->limits.keyTimeout = std::chrono::milliseconds(10);
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}, 0)).forwarded());
  ShareFetchRequest acknowledging = RequestFor({kClicks}, 1);
  acknowledging.topics.at(0).partitions.at(0).acknowledgementBatches.emplace_back();
  {
    const MissingRegistry missing(registryFile());
    EXPECT_TRUE(Guarded(ResponseOf(kClicks, sealed, 0, 0)).records->empty());
    EXPECT_TRUE(shared_->keyOutages.any());
    const RequestResult next = Request(*guard_, kShareFetchVersion, RequestFor({}, 2));
    ASSERT_TRUE(next.answered()) << "the session has the topic";
    EXPECT_TRUE(WrittenResponse<ShareFetchResponse>(next.written, kShareFetchVersion).responses.empty());
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, acknowledging).forwarded());
    ShareGuard other(Context());
    EXPECT_TRUE(Request(other, kShareFetchVersion, RequestFor({kClicks}, 0)).answered());
    EXPECT_TRUE(Request(other, kShareFetchVersion, RequestFor({}, kFinal)).forwarded());
    ShareGuard unconcerned(Context());
    EXPECT_TRUE(Request(unconcerned, kShareFetchVersion, RequestFor({kFree}, 0)).forwarded());
  }
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 3)).forwarded());
  EXPECT_FALSE(shared_->keyOutages.any());
}

// Whose users' keys cannot be had waits alone: other members of the topic need none of them.
TEST_F(ShareGuardTest, HoldsOnlyTheMemberWhoseUsersKeysCannotBeMade) {
  constexpr char kTopics[] =
      R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "onDenied": "mask", "read": [
          {"workload": {"unit": "reader.service"}, "where": {"users": ["anna", "dora"]}},
          {"workload": {"unit": "all.service"}}]})";
  UseTopics(kTopics);
  const ByteBuffer sealed = SealedClicks({"anna"});
  shared_->limits.keyTimeout = std::chrono::milliseconds(10);
  proxy::ConnectionInfo unrestricted = connection_;
  unrestricted.workload.unit = "all.service";
  ShareGuard other(ContextOf(unrestricted));
  ShareGuard alike(Context());
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}, 0)).forwarded());
  {
    const LockedRegistry locked(registryFile());
    const auto nothing = Guarded(ResponseOf(kClicks, sealed, 0, 0));
    EXPECT_TRUE(nothing.records->empty()) << "dora has no key, and none can be made";
    EXPECT_TRUE(nothing.acquiredRecords.empty());
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 2)).answered());
    EXPECT_TRUE(Request(other, kShareFetchVersion, RequestFor({kClicks}, 0)).forwarded());
    EXPECT_TRUE(Request(alike, kShareFetchVersion, RequestFor({kClicks}, 0)).answered())
        << "it could not read it either";
    // Policies that say the same are no reason to try again, and waste one of the record's five tries.
    UseTopics(kTopics);
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 2)).answered());
    // Until the rules name her no more.
    UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "onDenied": "mask",
                  "read": [{"workload": {"unit": "reader.service"}, "where": {"users": ["anna"]}}]})");
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 2)).forwarded());
  }
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "onDenied": "mask",
                "read": [{"any": true, "where": {"users": ["anna", "emil"]}}]})");
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 3)).forwarded());
  {
    const LockedRegistry locked(registryFile());
    EXPECT_TRUE(Guarded(ResponseOf(kClicks, sealed, 0, 0)).records->empty());
    EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 4)).answered());
  }
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 4)).forwarded());
  EXPECT_EQ(Read(*Guarded(ResponseOf(kClicks, sealed, 0, 0)).records).records.at(0).value, Click("anna"));
}

// What is left out counts as a try, also where rules take long.
TEST_F(ShareGuardTest, IsNotEndedForTheWorkOfItsRules) {
  UseTopics(R"({"name": "clicks", "seal": {"scope": "topic"}, "onDenied": "mask",
                "read": [{"any": true, "where": {"header": {"name": "region", "matches": "[a-z]{0,200}"}}}]})");
  TestRecord record = ClickOf("anna");
  record.headers.emplace_back("region", std::string(1000, 'x'));
  ByteBuffer batches;
  for (const int64_t offset : {0, 1, 2}) {
    TestBatch batch;
    batch.baseOffset = offset;
    const ByteBuffer produced = ProducedBatch({record}, kafka::Codec::kNone, batch);
    batches.insert(batches.end(), produced.begin(), produced.end());
  }
  shared_->limits.workOfResponse = batches.size();  // a try of the expression counts 800,000
  EXPECT_EQ(Acquired(Guarded(ResponseOf(kClicks, batches, 0, 2))), (std::vector<std::pair<int64_t, int64_t>>{{0, 2}}));
}

// What is left out counts as a try, so it is made to fit instead.
TEST_F(ShareGuardTest, KeepsTheCodecOfWhatWouldBeMoreThanTheMemberAskedFor) {
  std::vector<TestRecord> records;
  for (int i = 0; i < 50; ++i)
    records.push_back(Record("k", R"({"user":"anna","x":")" + std::string(300, 'x') + "\"}"));
  const ByteBuffer sealed = Sealed(TaskToSeal(ProducedBatch(std::move(records), kafka::Codec::kGzip), "clicks"));
  for (const bool isRoom : {true, false}) {
    ShareFetchRequest request = RequestFor({kClicks});
    request.maxBytes = isRoom ? 1 << 20 : static_cast<int32_t>(sealed.size());
    RequestResult asked = Request(*guard_, kShareFetchVersion, request);
    ASSERT_TRUE(asked.forwarded());
    const ResponseResult answer =
        Response(*guard_, kShareFetchVersion, ResponseOf(kClicks, sealed, 0, 49), asked.verdict.state.get());
    const auto response = WrittenResponse<ShareFetchResponse>(answer.written, kShareFetchVersion);
    const auto& opened = response.responses.at(0).partitions.at(0);
    EXPECT_EQ(Read(*opened.records).header.codec(), isRoom ? kafka::Codec::kNone : kafka::Codec::kGzip);
    EXPECT_EQ(Read(*opened.records).records.size(), 50u);
    EXPECT_EQ(Acquired(opened), (std::vector<std::pair<int64_t, int64_t>>{{0, 49}}));
    EXPECT_TRUE(isRoom || opened.records->size() <= sealed.size());
  }
}

TEST_F(ShareGuardTest, LowersARequestForMoreThanTheAgentHolds) {
  shared_->limits.fetchBytes = 1 << 20;
  ShareFetchRequest request = RequestFor({kClicks});
  request.maxBytes = 300'000'000;
  const RequestResult asked = Request(*guard_, kShareFetchVersion, request);
  ASSERT_TRUE(asked.rewritten());
  EXPECT_TRUE(asked.wantsResponse());
  EXPECT_EQ(WrittenRequest<ShareFetchRequest>(asked.written, kShareFetchVersion).maxBytes, 1 << 20);
}

TEST_F(ShareGuardTest, LearnsTheBrokersThatAnAnswerNames) {
  ShareFetchResponse response;
  kafka::NodeEndpoint& broker = response.nodeEndpoints.emplace_back();
  broker.host = "192.0.2.7";
  broker.port = 9092;
  EXPECT_TRUE(Response(*guard_, kShareFetchVersion, response).forwarded());
  EXPECT_EQ(learned_, std::vector<std::string>{"192.0.2.7:9092 of target 3"});
}

TEST_F(ShareGuardTest, ClosesOnAVersionThatItCannotRead) {
  const RequestResult asked = RequestBytes(*guard_, kafka::ApiKey::kShareFetch, 3, {});
  ASSERT_TRUE(asked.closed());
  EXPECT_NE(asked.verdict.reason.find("ShareFetch version 3"), std::string::npos);
}

TEST_F(ShareGuardTest, WhatIsRememberedOfRefusalsCounts) {
  ShareFetchRequest request = RequestFor({kPrivate}, 0);
  EXPECT_LT(Request(*guard_, kShareFetchVersion, request).verdict.state->bytes(), 1024u);
  for (int32_t i = 10; i < 1010; ++i) request.topics[0].partitions.emplace_back().partitionIndex = i;
  EXPECT_GT(Request(*guard_, kShareFetchVersion, request).verdict.state->bytes(), 1000u * 32);
}

// Any client that may describe the group knows its members' names.
TEST_F(ShareGuardTest, GoesOnOnlyOnTheConnectionThatBeganTheSession) {
  const auto codeOf = [this](const RequestResult& result) {
    EXPECT_TRUE(result.answered());
    return result.answered() ? WrittenResponse<ShareFetchResponse>(result.written, kShareFetchVersion).errorCode
                             : ErrorCode::kNone;
  };
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({kClicks}, 0)).forwarded());
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 1)).forwarded());
  ShareGuard other(Context());
  for (const int32_t epoch : {2, kFinal}) {
    EXPECT_EQ(codeOf(Request(other, kShareFetchVersion, RequestFor({}, epoch))), ErrorCode::kShareSessionNotFound);
    for (const bool isOtherGroup : {true, false}) {
      ShareFetchRequest request = RequestFor({}, epoch);
      (isOtherGroup ? request.groupId : request.memberId) = "other";
      EXPECT_EQ(codeOf(Request(*guard_, kShareFetchVersion, request)), ErrorCode::kShareSessionNotFound);
    }
  }
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, RequestFor({}, 2)).forwarded());
  ShareFetchRequest longNames = RequestFor({}, 0);
  const std::string name(ShareMember::kLongestNames, 'x');
  longNames.memberId = name;
  EXPECT_TRUE(Request(*guard_, kShareFetchVersion, longNames).forwarded());
  longNames.shareSessionEpoch = 1;
  EXPECT_EQ(codeOf(Request(*guard_, kShareFetchVersion, longNames)), ErrorCode::kShareSessionNotFound);
}

class ShareAcknowledgeTest : public ShareGuardTest {
 protected:
  ShareAcknowledgeTest() { acknowledge_ = std::make_unique<ShareAcknowledgeGuard>(Context(client_)); }

  static kafka::ShareAcknowledgeRequest Of(std::vector<uint8_t> topics) {
    kafka::ShareAcknowledgeRequest request;
    request.groupId = "group";
    request.memberId = "member";
    request.shareSessionEpoch = 1;
    for (const uint8_t number : topics) {
      kafka::ShareAcknowledgeRequest::Topic& topic = request.topics.emplace_back();
      topic.topicId = Id(number);
      topic.partitions.emplace_back().partitionIndex = 4;
      topic.partitions[0].acknowledgementBatches.emplace_back().acknowledgeTypes = {3};
    }
    return request;
  }

  const std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<ShareAcknowledgeGuard> acknowledge_;
};

TEST_F(ShareAcknowledgeTest, IsForTheMemberWhoseSessionTheConnectionBegan) {
  for (int16_t version = 0; version <= 2; ++version) {
    client_->shareMember = ShareMember();
    const RequestResult refused = Request(*acknowledge_, version, Of({kClicks}));
    ASSERT_TRUE(refused.answered());
    EXPECT_EQ(WrittenResponse<kafka::ShareAcknowledgeResponse>(refused.written, version).errorCode,
              ErrorCode::kShareSessionNotFound);
    ShareGuard fetching(Context(client_));
    Request(fetching, version, RequestFor({kClicks}, 0));
    EXPECT_TRUE(Request(*acknowledge_, version, Of({kClicks, kFree})).forwarded());
  }
}

TEST_F(ShareAcknowledgeTest, SaysNothingOfTopicsThatTheMemberMayNotRead) {
  client_->shareMember.Begin("group", "member");
  const RequestResult asked = Request(*acknowledge_, 2, Of({kPrivate, kClicks, kUnheardOf}));
  ASSERT_TRUE(asked.rewritten());
  const auto forwarded = WrittenRequest<kafka::ShareAcknowledgeRequest>(asked.written, 2);
  ASSERT_EQ(forwarded.topics.size(), 1u);
  EXPECT_EQ(forwarded.topics[0].topicId, Id(kClicks));
  EXPECT_EQ(forwarded.topics[0].partitions.at(0).acknowledgementBatches.size(), 1u);
  kafka::ShareAcknowledgeResponse response;
  response.responses.emplace_back().topicId = Id(kClicks);
  const ResponseResult answer = Response(*acknowledge_, 2, response, asked.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  const auto heard = WrittenResponse<kafka::ShareAcknowledgeResponse>(answer.written, 2);
  ASSERT_EQ(heard.responses.size(), 3u);
  EXPECT_EQ(heard.responses[1].topicId, Id(kPrivate));
  EXPECT_EQ(heard.responses[1].partitions.at(0).partitionIndex, 4);
  EXPECT_EQ(heard.responses[1].partitions[0].errorCode, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(heard.responses[2].partitions.at(0).errorCode, ErrorCode::kUnknownTopicId);
  response.errorCode = ErrorCode::kInvalidShareSessionEpoch;
  EXPECT_TRUE(Response(*acknowledge_, 2, response, asked.verdict.state.get()).forwarded());
}

TEST_F(ShareAcknowledgeTest, LearnsTheBrokersThatAnAnswerNames) {
  kafka::ShareAcknowledgeResponse response;
  response.nodeEndpoints.emplace_back().host = "192.0.2.7";
  response.nodeEndpoints[0].port = 9092;
  EXPECT_TRUE(Response(*acknowledge_, 2, response).forwarded());
  EXPECT_EQ(learned_, std::vector<std::string>{"192.0.2.7:9092 of target 3"});
}

TEST_F(ShareAcknowledgeTest, RemembersNoMoreRefusalsThanAConnectionMayBeOwed) {
  client_->shareMember.Begin("group", "member");
  kafka::ShareAcknowledgeRequest request = Of({kPrivate});
  request.topics[0].partitions.resize(200'000);
  EXPECT_TRUE(Request(*acknowledge_, 2, request).closed());
}

TEST_F(ShareAcknowledgeTest, ClosesOnWhatItCannotRead) {
  for (const int16_t version : {2, 3}) {
    EXPECT_TRUE(RequestBytes(*acknowledge_, kafka::ApiKey::kShareAcknowledge, version, AsBytes("\x7f")).closed());
  }
}

}  // namespace
}  // namespace kveil::guard
