// Fetch: who may read, what is opened, and what a reader gets where something does not open.
#include "guard/apis/fetch_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <thread>

#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;
using ::testing::HasSubstr;

constexpr char kTopics[] = R"(
    {"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]},
    {"name": "staff", "seal": {"scope": "topic"}, "read": [{"workload": {"unit": "reader.service"}}]},
    {"name": "private", "seal": {"scope": "topic"}, "read": [{"workload": {"unit": "other.service"}}]})";

class FetchGuardTest : public InterceptorTest {
 protected:
  FetchGuardTest() {
    UseTopics(kTopics);
    guard_ = std::make_unique<FetchGuard>(Context(client_));
  }

  static FetchRequest::Topic Asked(std::string_view name, int64_t offset = 0, int32_t partition = 0) {
    FetchRequest::Topic topic;
    topic.topic = name;
    FetchRequest::Partition& asked = topic.partitions.emplace_back();
    asked.partition = partition;
    asked.partitionMaxBytes = 8 << 20;
    asked.fetchOffset = offset;
    return topic;
  }
  static FetchRequest::Topic AskedById(kafka::TopicId id) {
    FetchRequest::Topic topic = Asked("");
    topic.topicId = id;
    return topic;
  }
  static FetchRequest RequestFor(std::vector<FetchRequest::Topic> topics) {
    FetchRequest request;
    request.maxWaitMs = 1;
    request.maxBytes = 50 << 20;
    request.topics = std::move(topics);
    return request;
  }
  RequestResult Fetch(std::vector<FetchRequest::Topic> topics, int16_t version = 12) {
    return Request(*guard_, version, RequestFor(std::move(topics)));
  }

  static FetchResponse::Partition Records(Bytes records, int32_t partition = 0) {
    FetchResponse::Partition answered;
    answered.partitionIndex = partition;
    answered.highWatermark = 1000;
    answered.lastStableOffset = 999;
    answered.records = records;
    return answered;
  }
  static FetchResponse::Topic Answered(std::string_view name, std::vector<FetchResponse::Partition> partitions) {
    FetchResponse::Topic topic;
    topic.topic = name;
    topic.partitions = std::move(partitions);
    return topic;
  }
  static FetchResponse ResponseOf(std::vector<FetchResponse::Topic> topics) {
    FetchResponse response;
    response.sessionId = 77;
    response.responses = std::move(topics);
    return response;
  }
  // Asks for one partition and gets its answer as the reader does.
  FetchResponse::Partition Get(std::string_view topic, Bytes records, int64_t offset = 0) {
    RequestResult asked = Fetch({Asked(topic, offset)});
    EXPECT_TRUE(asked.forwarded());
    EXPECT_TRUE(asked.wantsResponse());
    const ResponseResult answer =
        Response(*guard_, 12, ResponseOf({Answered(topic, {Records(records)})}), asked.verdict.state.get());
    EXPECT_TRUE(answer.rewritten());
    if (!answer.rewritten()) return {};
    const auto response = WrittenResponse<FetchResponse>(answer.written, 12);
    EXPECT_EQ(response.sessionId, 77);
    EXPECT_EQ(response.responses.size(), 1u);
    EXPECT_EQ(response.responses[0].partitions.size(), 1u);
    const FetchResponse::Partition partition = response.responses[0].partitions[0];
    EXPECT_EQ(partition.highWatermark, 1000);
    EXPECT_EQ(partition.lastStableOffset, 999);
    return partition;
  }
  // Has the broker answer a request with these records; the reader gets an error in their place.
  void ExpectDenied(const RequestResult& asked, std::string_view topic, const ByteBuffer& records) {
    const ResponseResult answer =
        Response(*guard_, 12, ResponseOf({Answered(topic, {Records(records)})}), asked.verdict.state.get());
    ASSERT_TRUE(answer.rewritten());
    const auto response = WrittenResponse<FetchResponse>(answer.written, 12);
    EXPECT_EQ(response.responses[0].partitions[0].errorCode, ErrorCode::kTopicAuthorizationFailed);
  }
  static FetchRequest Continued(int32_t epoch, int32_t session = 77) {
    FetchRequest request = RequestFor({});
    request.sessionId = session;
    request.sessionEpoch = epoch;
    return request;
  }
  // The broker hears of the request only that its session is over, and the client that there is none.
  void ExpectEnded(FetchGuard& guard, const FetchRequest& request) {
    const RequestResult asked = Request(guard, 12, request);
    ASSERT_TRUE(asked.rewritten());
    ASSERT_TRUE(asked.wantsResponse());
    const auto forwarded = WrittenRequest<FetchRequest>(asked.written, 12);
    EXPECT_EQ(forwarded.sessionId, request.sessionId);
    EXPECT_EQ(forwarded.sessionEpoch, -1);
    EXPECT_TRUE(forwarded.topics.empty());
    EXPECT_TRUE(forwarded.forgottenTopicsData.empty());
    const ResponseResult answer = Response(guard, 12, FetchResponse(), asked.verdict.state.get());
    ASSERT_TRUE(answer.rewritten());
    EXPECT_EQ(WrittenResponse<FetchResponse>(answer.written, 12).errorCode, ErrorCode::kFetchSessionIdNotFound);
  }
  // Sends the first request of a session and has the broker name it 77.
  void BeginSession(const FetchRequest& full, int16_t version = 12) {
    RequestResult begun = Request(*guard_, version, full);
    ASSERT_TRUE(begun.wantsResponse()) << "the answer has the session's id";
    EXPECT_FALSE(Response(*guard_, version, ResponseOf({}), begun.verdict.state.get()).rewritten());
  }
  ByteBuffer SealedFor(std::string_view topic, std::vector<TestRecord> records, int64_t baseOffset = 0) {
    TestBatch batch;
    batch.baseOffset = baseOffset;
    const ByteBuffer produced = ProducedBatch(std::move(records), kafka::Codec::kNone, batch);
    return Sealed(TaskToSeal(produced, topic));
  }
  ByteBuffer SealedClicks(std::vector<std::string> users, int64_t baseOffset = 0) {
    std::vector<TestRecord> records;
    for (const std::string& user : users) records.push_back(ClickOf(user));
    return SealedFor("clicks", std::move(records), baseOffset);
  }
  static ByteBuffer Joined(const ByteBuffer& first, const ByteBuffer& second) {
    ByteBuffer both = first;
    both.insert(both.end(), second.begin(), second.end());
    return both;
  }
  static ByteBuffer Tampered(const ByteBuffer& sealed) {
    const ReadBatch batch = Read(sealed);
    std::vector<TestRecord> records = batch.records;
    records.at(0).value->front() ^= 1;
    TestBatch fields;
    fields.baseOffset = batch.header.baseOffset;
    return ProducedBatch(records, kafka::Codec::kNone, fields);
  }
  template <typename Work>
  static std::chrono::milliseconds TimeOf(Work work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  }

  const std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<FetchGuard> guard_;
};

TEST_F(FetchGuardTest, OpensWhatTheReaderMaySee) {
  EXPECT_EQ(Read(*Get("clicks", SealedClicks({"anna", "bert"})).records).records.at(1).value, Click("bert"));
  EXPECT_EQ(Read(*Get("staff", SealedFor("staff", {Record("k", "v")})).records).records.at(0).value, "v");
  EXPECT_EQ(metrics_.totals().opened, 3u);
}

TEST_F(FetchGuardTest, OpensInEveryVersion) {
  const ByteBuffer sealed = SealedClicks({"anna"});
  shared_->topicNames.Learn(Id(1), "clicks", connection_);
  for (int16_t version = 4; version <= 18; ++version) {
    const bool byId = version >= 13;
    RequestResult asked = Fetch({byId ? AskedById(Id(1)) : Asked("clicks")}, version);
    ASSERT_TRUE(asked.wantsResponse()) << version;
    FetchResponse response = ResponseOf({Answered(byId ? "" : "clicks", {Records(sealed)})});
    if (byId) response.responses[0].topicId = Id(1);
    const ResponseResult answer = Response(*guard_, version, response, asked.verdict.state.get());
    ASSERT_TRUE(answer.rewritten()) << version;
    const auto opened = WrittenResponse<FetchResponse>(answer.written, version);
    EXPECT_EQ(Read(*opened.responses[0].partitions[0].records).records.at(0).value, Click("anna")) << version;
  }
  EXPECT_TRUE(upstream_.asked.empty());
}

TEST_F(FetchGuardTest, WantsNoResponseOfUnprotectedTopics) {
  const RequestResult asked = Fetch({Asked("free"), Asked("alsoFree")});
  EXPECT_TRUE(asked.forwarded());
  EXPECT_FALSE(asked.wantsResponse());
}

TEST_F(FetchGuardTest, PassesAResponseOfPlaintextAsItCame) {
  RequestResult asked = Fetch({Asked("clicks"), Asked("free")});
  const ByteBuffer plain = ProducedBatch({ClickOf("anna")});
  const FetchResponse response = ResponseOf({Answered("clicks", {Records(plain)}), Answered("free", {Records(plain)})});
  EXPECT_TRUE(Response(*guard_, 12, response, asked.verdict.state.get()).forwarded());
}

TEST_F(FetchGuardTest, DeniesATopicThatNoRuleLetsTheWorkloadRead) {
  const ByteBuffer sealed = SealedFor("private", {Record("k", "v")});
  FetchResponse::Partition denied = Get("private", sealed);
  EXPECT_EQ(denied.errorCode, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_TRUE(denied.records.value_or(Bytes()).empty());
  denied = Get("private", Bytes());
  EXPECT_EQ(denied.errorCode, ErrorCode::kTopicAuthorizationFailed) << "also where there is nothing to read";
  denied = Get("private", ProducedBatch({Record("k", "clear")}));
  EXPECT_EQ(denied.errorCode, ErrorCode::kTopicAuthorizationFailed) << "also what is not sealed";
}

TEST_F(FetchGuardTest, NeverOpensForAReplica) {
  FetchRequest old = RequestFor({Asked("clicks")});
  old.replicaId = 2;
  const RequestResult before15 = Request(*guard_, 12, old);
  EXPECT_TRUE(before15.forwarded());
  EXPECT_FALSE(before15.wantsResponse());
  FetchRequest newer = RequestFor({AskedById(Id(1))});
  newer.replicaState.replicaId = 2;
  const RequestResult from15 = Request(*guard_, 17, newer);
  EXPECT_TRUE(from15.forwarded());
  EXPECT_FALSE(from15.wantsResponse());
  EXPECT_TRUE(upstream_.asked.empty());
}

TEST_F(FetchGuardTest, AsksForTheNameOfAnUnknownIdAheadOfTheRequest) {
  upstream_.answer = NamesAnswer({{Id(1), "clicks"}, {Id(2), "free"}});
  RequestResult asked = Fetch({AskedById(Id(1)), AskedById(Id(2))}, 13);
  EXPECT_TRUE(asked.wantsResponse());
  ASSERT_EQ(upstream_.asked.size(), 1u);
  EXPECT_EQ(upstream_.asked[0].apiKey, kafka::ApiKey::kMetadata);
  const auto question = kafka::Decode<kafka::MetadataRequest>(upstream_.asked[0].body, upstream_.asked[0].version);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->topics->size(), 2u);
  EXPECT_FALSE(question->allowAutoTopicCreation);
  EXPECT_EQ(shared_->topicNames.Find(Id(1), connection_), "clicks");
  Fetch({AskedById(Id(1)), AskedById(Id(2))}, 13);
  EXPECT_EQ(upstream_.asked.size(), 1u) << "asked for what is known";
}

TEST_F(FetchGuardTest, DoesNotAskAgainAtOnceForAnIdThatTheBrokerDoesNotKnow) {
  upstream_.answer = NamesAnswer({{Id(1), ""}});
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Fetch({AskedById(Id(1))}, 13).wantsResponse());
  EXPECT_EQ(upstream_.asked.size(), 1u);
}

// A request that adds one topic, or names an id that nobody can name, costs what it says and not what the others did.
TEST_F(FetchGuardTest, DoesNotLookAtAllTopicsOfASessionForEachRequest) {
  const auto numbered = [](uint32_t number) {
    kafka::TopicId id = Id(1);
    for (size_t i = 0; i < sizeof(number); ++i) id.bytes[i + 1] = static_cast<uint8_t>(number >> 8 * i);
    return id;
  };
  const auto timeWith = [&](uint32_t topics) {
    guard_ = std::make_unique<FetchGuard>(Context(client_));
    upstream_.answer = NamesAnswer({});
    FetchRequest full = RequestFor({});
    for (uint32_t i = 0; i < topics; ++i) full.topics.push_back(AskedById(numbered(i)));
    full.sessionEpoch = 0;
    BeginSession(full, 13);
    const auto begun = std::chrono::steady_clock::now();
    for (int32_t epoch = 1; epoch <= 200; ++epoch) {
      FetchRequest one = RequestFor({AskedById(numbered(topics + static_cast<uint32_t>(epoch)))});
      one.sessionId = 77;
      one.sessionEpoch = epoch;
      EXPECT_TRUE(Request(*guard_, 13, one).wantsResponse());
    }
    return std::chrono::steady_clock::now() - begun;
  };
  timeWith(10);
  const auto few = timeWith(10);
  EXPECT_LT(timeWith(20'000), 10 * few + std::chrono::milliseconds(50));
}

TEST_F(FetchGuardTest, GivesNoRecordsOfATopicThatNobodyCanName) {
  RequestResult asked = Fetch({AskedById(Id(1))}, 13);
  ASSERT_TRUE(asked.wantsResponse()) << "the broker could not be asked, so it may be a protected topic";
  const ByteBuffer clear = ProducedBatch({Record("k", "clear")});
  FetchResponse response = ResponseOf({Answered("", {Records(clear), Records({}, 1)})});
  response.responses[0].topicId = Id(1);
  const ResponseResult answer = Response(*guard_, 13, response, asked.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  const auto guarded = WrittenResponse<FetchResponse>(answer.written, 13);
  ASSERT_EQ(guarded.responses[0].partitions.size(), 2u);
  EXPECT_EQ(guarded.responses[0].partitions[0].errorCode, ErrorCode::kUnknownTopicId);
  EXPECT_TRUE(guarded.responses[0].partitions[0].records->empty());
}

TEST_F(FetchGuardTest, RemembersWhatAFetchSessionAskedFor) {
  const ByteBuffer sealed = SealedClicks({"bert", "anna", "anna"}, 100);
  Erase("anna");
  FetchRequest full = RequestFor({Asked("clicks", 101), Asked("free", 0)});
  full.sessionEpoch = 0;
  BeginSession(full);
  FetchRequest incremental = RequestFor({});
  incremental.sessionId = 77;
  incremental.sessionEpoch = 1;
  RequestResult asked = Request(*guard_, 12, incremental);
  ASSERT_TRUE(asked.wantsResponse());
  const ResponseResult answer =
      Response(*guard_, 12, ResponseOf({Answered("clicks", {Records(sealed)})}), asked.verdict.state.get());
  const auto response = WrittenResponse<FetchResponse>(answer.written, 12);
  const ReadBatch filler = Read(*response.responses[0].partitions[0].records);
  EXPECT_TRUE(filler.header.isControl()) << "what is visible lies before offset 101";
  EXPECT_EQ(filler.header.lastOffset(), 102);

  FetchRequest forget = incremental;
  forget.sessionEpoch = 2;
  forget.forgottenTopicsData.emplace_back().topic = "clicks";
  forget.forgottenTopicsData[0].partitions = {0};
  Request(*guard_, 12, forget);
  FetchRequest anew = RequestFor({Asked("free")});
  anew.sessionEpoch = 0;
  BeginSession(anew);
  EXPECT_FALSE(Request(*guard_, 12, incremental).wantsResponse()) << "a new session still has the old one's topics";
}

// A broker lets every connection go on with every session: its topics would be known to none.
TEST_F(FetchGuardTest, EndsASessionThatWasBegunOnAnotherConnection) {
  ExpectEnded(*guard_, Continued(5, 78));
  FetchRequest full = RequestFor({Asked("free")});
  full.sessionEpoch = 0;
  BeginSession(full);
  ExpectEnded(*guard_, Continued(5, 78));
  EXPECT_TRUE(Request(*guard_, 12, Continued(1)).forwarded()) << "this connection's own goes on";
  // As of another connection of the workload, which may not put topics into it.
  FetchGuard second(Context(client_));
  FetchRequest adds = Continued(2);
  adds.topics.push_back(Asked("private"));
  ExpectEnded(second, adds);
}

TEST_F(FetchGuardTest, EndsASessionOfWhichTheBrokerHasRefusedARequest) {
  for (const ErrorCode error : {ErrorCode::kInvalidFetchSessionEpoch, ErrorCode::kFetchSessionIdNotFound}) {
    FetchRequest full = RequestFor({Asked("private"), Asked("free")});
    full.sessionEpoch = 0;
    BeginSession(full);
    FetchRequest forget = Continued(1);
    forget.forgottenTopicsData.emplace_back().topic = "private";
    forget.forgottenTopicsData[0].partitions = {0};
    RequestResult asked = Request(*guard_, 12, forget);
    ASSERT_TRUE(asked.wantsResponse());
    FetchResponse refused = ResponseOf({});
    refused.errorCode = error;
    EXPECT_TRUE(Response(*guard_, 12, refused, asked.verdict.state.get()).forwarded());
    ExpectEnded(*guard_, Continued(2));
  }
}

TEST_F(FetchGuardTest, GoesOnWithNoSessionThatHasNoNameYet) {
  FetchRequest full = RequestFor({Asked("free")});
  full.sessionEpoch = 0;
  RequestResult begun = Request(*guard_, 12, full);
  ExpectEnded(*guard_, Continued(1, 0));
  EXPECT_TRUE(Response(*guard_, 12, ResponseOf({}), begun.verdict.state.get()).forwarded());
}

// Otherwise a session that lost step with the broker's could be brought back to where it was.
TEST_F(FetchGuardTest, ASessionEndsBeforeItsEpochsBeginAnew) {
  FetchSession session(*shared_, budget_, connection_, 0, 0);
  session.SetId(77);
  EXPECT_TRUE(session.ContinuesWith(Continued(1)));
  session.Apply(Continued(std::numeric_limits<int32_t>::max() - 1));
  EXPECT_TRUE(session.ContinuesWith(Continued(std::numeric_limits<int32_t>::max())));
  session.Apply(Continued(std::numeric_limits<int32_t>::max()));
  EXPECT_FALSE(session.ContinuesWith(Continued(1)));
  EXPECT_FALSE(session.ContinuesWith(Continued(std::numeric_limits<int32_t>::min())));
}

// What says that it is a replica's is not looked at: it may not put topics into a reader's session.
TEST_F(FetchGuardTest, GoesOnWithNoReadersSessionForAReplica) {
  const auto asReplica = [](FetchRequest request) {
    request.replicaId = 2;
    return request;
  };
  FetchRequest full = RequestFor({Asked("clicks")});
  full.sessionEpoch = 0;
  BeginSession(full);
  FetchRequest adds = Continued(1);
  adds.topics.push_back(Asked("private"));
  ExpectEnded(*guard_, asReplica(adds));
  full.maxBytes = std::numeric_limits<int32_t>::max();
  RequestResult begun = Request(*guard_, 12, asReplica(full));
  ASSERT_TRUE(begun.rewritten()) << "lowered, as the agent holds its answer";
  ASSERT_TRUE(begun.wantsResponse()) << "the answer has the session's id";
  const ByteBuffer sealed = SealedClicks({"anna"});
  const FetchResponse answer = ResponseOf({Answered("clicks", {Records(sealed)})});
  EXPECT_TRUE(Response(*guard_, 12, answer, begun.verdict.state.get()).forwarded());
  const RequestResult next = Request(*guard_, 12, asReplica(adds));
  EXPECT_TRUE(next.forwarded());
  EXPECT_FALSE(next.wantsResponse());
  ExpectEnded(*guard_, asReplica(Continued(1, 78)));
  ExpectEnded(*guard_, Continued(2));
}

TEST_F(FetchGuardTest, GuardsATopicFromTheMomentAPolicyNamesIt) {
  FetchRequest full = RequestFor({Asked("free")});
  full.sessionEpoch = 0;
  BeginSession(full);
  FetchRequest incremental = RequestFor({});
  incremental.sessionId = 77;
  incremental.sessionEpoch = 1;
  EXPECT_FALSE(Request(*guard_, 12, incremental).wantsResponse());
  UseTopics(std::string(kTopics) + R"(, {"name": "free", "read": []})");
  EXPECT_TRUE(Request(*guard_, 12, incremental).wantsResponse());
}

TEST_F(FetchGuardTest, GuardsAnAnswerWhoseTopicALaterRequestOfTheSessionForgets) {
  FetchRequest full = RequestFor({Asked("private"), Asked("free")});
  full.sessionEpoch = 0;
  BeginSession(full);
  FetchRequest incremental = RequestFor({});
  incremental.sessionId = 77;
  incremental.sessionEpoch = 1;
  const RequestResult first = Request(*guard_, 12, incremental);
  FetchRequest forget = incremental;
  forget.sessionEpoch = 2;
  forget.forgottenTopicsData.emplace_back().topic = "private";
  forget.forgottenTopicsData[0].partitions = {0};
  // Policies that have changed make the session's need be worked out anew, without the forgotten topic.
  UseTopics(std::string(kTopics) + R"(, {"name": "another", "read": []})");
  const RequestResult second = Request(*guard_, 12, forget);
  EXPECT_FALSE(second.wantsResponse());
  ASSERT_TRUE(first.wantsResponse()) << "its answer may still hold the protected topic";
  ExpectDenied(first, "private", ProducedBatch({Record("k", "clear")}));
}

// The broker would refuse the request, and keep the session as it was.
TEST_F(FetchGuardTest, EndsASessionOfWhichARequestOutOfTurnForgetsATopic) {
  FetchRequest full = RequestFor({Asked("private"), Asked("free")});
  full.sessionEpoch = 0;
  BeginSession(full);
  FetchRequest outOfTurn = Continued(5);
  outOfTurn.topics.push_back(Asked("alsoFree"));
  outOfTurn.forgottenTopicsData.emplace_back().topic = "private";
  outOfTurn.forgottenTopicsData[0].partitions = {0};
  ExpectEnded(*guard_, outOfTurn);
  for (const int32_t epoch : {1, 2, 6}) ExpectEnded(*guard_, Continued(epoch));
}

// The fetch waits at the broker for longer than that.
TEST_F(FetchGuardTest, AsksAgainForANameAboutOnceASecond) {
  upstream_.answer = NamesAnswer({});
  FetchRequest full = RequestFor({AskedById(Id(1))});
  full.sessionEpoch = 0;
  BeginSession(full, 13);
  RequestResult waiting = Request(*guard_, 13, Continued(1));
  EXPECT_EQ(upstream_.asked.size(), 1u);
  std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  EXPECT_TRUE(waiting.wantsResponse());
  upstream_.answer = NamesAnswer({{Id(1), "free"}});
  EXPECT_FALSE(Request(*guard_, 13, Continued(2)).wantsResponse());
  EXPECT_EQ(upstream_.asked.size(), 2u);
}

TEST_F(FetchGuardTest, GuardsAnAnswerThatWaitedWhileAPolicyWasMadeForItsTopic) {
  const RequestResult waiting = Fetch({Asked("free")});
  EXPECT_FALSE(waiting.wantsResponse());
  UseTopics(std::string(kTopics) + R"(, {"name": "free", "read": []})");
  ASSERT_TRUE(waiting.wantsResponse());
  ExpectDenied(waiting, "free", ProducedBatch({Record("k", "clear")}));
}

TEST_F(FetchGuardTest, LeavesErasedRecordsOutUnlessThePolicyOrTheClientNeedsThemMasked) {
  const std::string clicks = R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}},
                                 "read": [{"any": true}])";
  const ByteBuffer sealed = SealedClicks({"anna", "bert"});
  Erase("anna");
  const auto recordsFor = [&](const std::string& onErased) {
    UseTopics(clicks + onErased + "}");
    return Read(*Get("clicks", sealed).records).records.size();
  };
  EXPECT_EQ(recordsFor(""), 1u);
  EXPECT_EQ(recordsFor(R"(, "onErased": "mask")"), 2u);
  EXPECT_THAT(metrics_.Text(), HasSubstr("kveil_records_dropped_total{reason=\"erased\"} 1"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("kveil_records_masked_total{reason=\"erased\"} 1"));

  client_->LearnName("shop@node (github.com/segmentio/kafka-go)");
  EXPECT_EQ(recordsFor(""), 2u);
  EXPECT_EQ(recordsFor(R"(, "onErased": "drop")"), 1u) << "the policy's word counts more";
}

TEST_F(FetchGuardTest, LeavesOutWhatTheRulesForTheWorkloadDoNotLetThrough) {
  const std::string clicks = R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [
      {"workload": {"unit": "other.service"}}, {"any": true, "where": {"users": ["bert"]}}])";
  const ByteBuffer sealed = SealedClicks({"anna", "bert", "carl"});
  UseTopics(clicks + "}");
  const ReadBatch left = Read(*Get("clicks", sealed).records);
  ASSERT_EQ(left.records.size(), 1u);
  EXPECT_EQ(left.records.at(0).value, Click("bert"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("kveil_records_dropped_total{reason=\"denied\"} 2"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("kveil_records_opened_total 1"));
  UseTopics(clicks + R"(, "onDenied": "mask"})");
  EXPECT_EQ(Read(*Get("clicks", sealed).records).records.size(), 3u);
  EXPECT_THAT(metrics_.Text(), HasSubstr("kveil_records_masked_total{reason=\"denied\"} 2"));
  // Of a client's own name, nothing follows.
  UseTopics(clicks + "}");
  client_->LearnName("shop@node (github.com/segmentio/kafka-go)");
  EXPECT_EQ(Read(*Get("clicks", sealed).records).records.size(), 1u);
}

// What is before the record is given first; then the reader gets the error, and stays where it is.
TEST_F(FetchGuardTest, AnswersWithAnErrorAtARecordThatRulesDenyWhereThePolicySaysSo) {
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "onDenied": "error", "read": [
      {"any": true, "where": {"users": ["anna"]}}]})");
  const ByteBuffer sealed = SealedClicks({"anna", "bert", "anna"});
  const FetchResponse::Partition before = Get("clicks", sealed, 0);
  EXPECT_EQ(before.errorCode, ErrorCode::kNone);
  EXPECT_EQ(Read(*before.records).records.size(), 1u);
  EXPECT_EQ(Read(*before.records).header.lastOffsetDelta, 0);
  const FetchResponse::Partition at = Get("clicks", sealed, 1);
  EXPECT_EQ(at.errorCode, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_TRUE(at.records.value_or(Bytes()).empty());
  const FetchResponse::Partition behind = Get("clicks", sealed, 2);
  EXPECT_EQ(behind.errorCode, ErrorCode::kNone);
  EXPECT_EQ(Read(*behind.records).records.size(), 2u) << "of which the client throws the first away";
  EXPECT_THAT(metrics_.Text(), HasSubstr("kveil_records_refused_total{reason=\"denied\"} 1"));
  EXPECT_EQ(connection_.tally->records.refused, 1u);
}

// A batch that was cut before a record that its reader has seen is the same at each try.
TEST_F(FetchGuardTest, AnswersWithAnErrorWhereThePolicySaysSoAndNobodyKnowsWhatWasAskedFor) {
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "onDenied": "error", "read": [
      {"any": true, "where": {"users": ["anna"]}}]})");
  const ByteBuffer sealed = SealedClicks({"anna", "bert", "anna"});
  RequestResult asked = Fetch({Asked("clicks", 2)});
  const ResponseResult answer =
      Response(*guard_, 12, ResponseOf({Answered("clicks", {Records(sealed, 7)})}), asked.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  const auto response = WrittenResponse<FetchResponse>(answer.written, 12);
  EXPECT_EQ(response.responses.at(0).partitions.at(0).errorCode, ErrorCode::kTopicAuthorizationFailed);
}

// The worker knows anna, who consents for a moment longer, and has to wait for bert's key meanwhile.
TEST_F(FetchGuardTest, GivesNothingOfAConsentThatEndsWhileKeysAreWaitedFor) {
  UsePolicyFile(R"({"purposes": ["marketing"], "topics": [{"name": "clicks", "seal": {"scope": "user", "user":
      {"value": "/user"}}, "read": [{"any": true, "where": {"consent": "marketing"}}]}]})");
  shared_->limits.keyTimeout = std::chrono::seconds(30);
  const ByteBuffer sealed = SealedClicks({"anna", "bert"});
  const auto grant = [&](const std::string& user, absl::Time until) {
    const keys::UserChange granted[] = {{user, "clicks", {.name = "marketing", .until = until}}};
    EXPECT_TRUE(service_->ChangeUsers(granted, 0).ok());
  };
  const absl::Time until = absl::FromUnixMillis(absl::ToUnixMillis(absl::Now()) + 500);
  grant("anna", until);
  Get("clicks", SealedClicks({"anna"}));  // the worker has her key and her consent
  grant("bert", absl::InfiniteFuture());  // and drops his key
  auto missing = std::make_optional<MissingRegistry>(registryFile());
  std::thread restoring([&] {
    while (absl::Now() <= until) absl::SleepFor(absl::Milliseconds(5));
    missing.reset();
  });
  const FetchResponse::Partition partition = Get("clicks", sealed);
  restoring.join();
  const ReadBatch given = Read(*partition.records);
  ASSERT_EQ(given.records.size(), 1u);
  EXPECT_EQ(given.records.at(0).value, Click("bert"));
}

// The policy is replaced while the response waits for bert's key.
TEST_F(FetchGuardTest, FinishesAResponseByTheRulesThatItBeganWith) {
  const auto withRead = [](const std::string& read) {
    return R"({"purposes": ["marketing"], "topics": [{"name": "clicks", "seal": {"scope": "user", "user":
        {"value": "/user"}}, "read": [)" +
           read + "]}]}";
  };
  UsePolicyFile(withRead(R"({"any": true, "where": {"consent": "marketing"}})"));
  shared_->limits.keyTimeout = std::chrono::seconds(30);
  const ByteBuffer sealed = SealedClicks({"anna", "bert", "carl"});
  const keys::UserChange granted[] = {{"anna", "clicks", {.name = "marketing"}},
                                      {"bert", "clicks", {.name = "marketing"}}};
  EXPECT_TRUE(service_->ChangeUsers(granted, 0).ok());  // the worker drops their keys
  auto missing = std::make_optional<MissingRegistry>(registryFile());
  std::thread replacing([&, before = metrics_.Text()] {
    for (int i = 0; i < 2000 && metrics_.Text() == before; ++i) absl::SleepFor(absl::Milliseconds(5));
    UsePolicyFile(withRead(""));
    missing.reset();
  });
  const FetchResponse::Partition partition = Get("clicks", sealed);
  replacing.join();
  EXPECT_EQ(Read(*partition.records).records.size(), 2u);
  ExpectDenied(Fetch({Asked("clicks")}), "clicks", sealed);
}

TEST_F(FetchGuardTest, KnowsAClientThatNeedsMaskingByItsClientId) {
  kafka::FrameWriter writer;
  kafka::Encode(RequestFor({Asked("clicks")}), 12, writer);
  EXPECT_FALSE(client_->needsMasking);
  RequestBytes(*guard_, kafka::ApiKey::kFetch, 12, writer.ToBuffer(), "a@b (github.com/segmentio/kafka-go)");
  EXPECT_TRUE(client_->needsMasking);
}

TEST_F(FetchGuardTest, GivesWhatLiesBeforeABatchThatDoesNotOpen) {
  const ByteBuffer good = SealedClicks({"anna"}, 0);
  const ByteBuffer forged = Tampered(SealedClicks({"bert"}, 1));
  const FetchResponse::Partition partition = Get("clicks", Joined(good, forged));
  EXPECT_EQ(partition.errorCode, ErrorCode::kNone);
  const ReadBatch opened = Read(*partition.records);
  ASSERT_EQ(opened.records.size(), 1u);
  EXPECT_EQ(opened.records.at(0).value, Click("anna"));
}

TEST_F(FetchGuardTest, GivesPlaintextBeforeABatchThatDoesNotOpen) {
  const ByteBuffer plain = ProducedBatch({ClickOf("anna")});
  const FetchResponse::Partition partition = Get("clicks", Joined(plain, Tampered(SealedClicks({"bert"}, 1))));
  EXPECT_EQ(partition.errorCode, ErrorCode::kNone);
  EXPECT_EQ(*partition.records, Bytes(plain));
}

TEST_F(FetchGuardTest, HoldsAReaderBeforeABatchThatDoesNotOpenAndSaysNothingItThrowsAt) {
  const ByteBuffer forged = Tampered(SealedClicks({"anna"}));
  FetchResponse::Partition partition;
  const auto held = TimeOf([&] { partition = Get("clicks", forged); });
  EXPECT_EQ(partition.errorCode, ErrorCode::kNotLeaderOrFollower);
  EXPECT_TRUE(partition.records->empty());
  EXPECT_GE(held.count(), 990);
  EXPECT_LT(held.count(), 5000);
  EXPECT_EQ(metrics_.totals().refused, 1u);
}

TEST_F(FetchGuardTest, HoldsNoReaderThatGetsRecordsOfAnotherPartition) {
  const ByteBuffer forged = Tampered(SealedClicks({"anna"}));
  const ByteBuffer good = SealedClicks({"bert"});
  RequestResult asked = Fetch({Asked("clicks")});
  ResponseResult answer;
  const auto held = TimeOf([&] {
    answer = Response(*guard_, 12, ResponseOf({Answered("clicks", {Records(forged, 0), Records(good, 1)})}),
                      asked.verdict.state.get());
  });
  EXPECT_LT(held.count(), 900);
  const auto response = WrittenResponse<FetchResponse>(answer.written, 12);
  ASSERT_EQ(response.responses[0].partitions.size(), 2u);
  EXPECT_EQ(response.responses[0].partitions[0].errorCode, ErrorCode::kNotLeaderOrFollower);
  EXPECT_EQ(Read(*response.responses[0].partitions[1].records).records.size(), 1u);
}

TEST_F(FetchGuardTest, GivesNothingAndNoErrorWhileTheKeysCannotBeReached) {
  const ByteBuffer sealed = SealedClicks({"anna"});
  Advance(std::chrono::minutes(5));  // what the worker has cached is too old now
  {
    const MissingRegistry missing(registryFile());
    FetchResponse::Partition partition;
    const auto held = TimeOf([&] { partition = Get("clicks", sealed); });
    EXPECT_EQ(partition.errorCode, ErrorCode::kNone);
    EXPECT_TRUE(partition.records->empty());
    EXPECT_GE(held.count(), 990);
  }
  EXPECT_EQ(Read(*Get("clicks", sealed).records).records.at(0).value, Click("anna"));
}

// Few bytes of the broker may be many once opened: the reader gets what fits, and asks for the rest.
TEST_F(FetchGuardTest, LeavesForLaterWhatOpensToMoreThanAReaderCanBeGiven) {
  shared_->limits.workOfResponse = 1 << 20;
  const std::string value = StrCat(R"({"user":"anna","x":")", std::string(160 << 10, 'x'), "\"}");
  TestBatch batch;
  ByteBuffer records;
  for (int i = 0; i < 8; ++i) {
    batch.baseOffset = i;
    records =
        Joined(records, Sealed(TaskToSeal(ProducedBatch({Record("k", value)}, kafka::Codec::kZstd, batch), "clicks")));
  }
  ASSERT_LT(records.size(), 50u << 10);
  constexpr int16_t kBeforeZstd = 9;  // whose readers get it uncompressed
  RequestResult asked = Fetch({Asked("clicks"), Asked("clicks", 0, 1)}, kBeforeZstd);
  const ResponseResult answer =
      Response(*guard_, kBeforeZstd, ResponseOf({Answered("clicks", {Records(records), Records(records, 1)})}),
               asked.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  const auto response = WrittenResponse<FetchResponse>(answer.written, kBeforeZstd);
  kafka::BatchReader reader(*response.responses[0].partitions[0].records);
  kafka::BatchView opened;
  int count = 0;
  while (reader.Next(opened) == kafka::BatchReader::Result::kBatch) ++count;
  EXPECT_EQ(count, 7) << "the seventh passes the limit";
  EXPECT_TRUE(response.responses[0].partitions[1].records->empty());
  EXPECT_EQ(response.responses[0].partitions[1].errorCode, ErrorCode::kNone);
}

TEST_F(FetchGuardTest, GivesNothingOfAPartialBatchButItsSizeWhereItIsAlone) {
  const ByteBuffer sealed = SealedClicks({"anna"});
  const ByteBuffer next = SealedClicks({"bert"}, 1);
  const ByteBuffer cut(next.begin(), next.end() - 1);
  const Bytes part = cut;
  EXPECT_EQ(Read(*Get("clicks", Joined(sealed, cut)).records).records.size(), 1u);
  EXPECT_EQ(*Get("clicks", part).records, part.first(17));
}

// Nor may a damaged row keep readers from a topic whose entries do not name its user.
TEST_F(FetchGuardTest, GivesRecordsBesideADamagedRowOfAUserWhomOnlyOthersEntriesName) {
  const ByteBuffer sealed = SealedClicks({"anna", "bert"});
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [
      {"workload": {"unit": "other.service"}, "where": {"users": ["anna"]}},
      {"any": true, "where": {"users": ["bert"]}}]})");
  Advance(std::chrono::minutes(5));  // what the worker has cached is too old now
  const DamagedKey anna(registryFile());
  const ReadBatch left = Read(*Get("clicks", sealed).records);
  ASSERT_EQ(left.records.size(), 1u);
  EXPECT_EQ(left.records.at(0).value, Click("bert"));
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [
      {"any": true, "where": {"users": ["anna", "bert"]}}]})");
  EXPECT_TRUE(Get("clicks", sealed).records->empty()) << "nobody knows which records are hers";
}

// Neither batch is rewritten: what came would go on as it is.
TEST_F(FetchGuardTest, CutsAPartialBatchBehindOneThatIsUnchanged) {
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "plaintext": "pass",
                "read": [{"any": true, "where": {"header": {"name": "region", "equals": "eu"}}}]})");
  TestBatch marker;
  marker.attributes = kafka::BatchHeader::kControlBit | kafka::BatchHeader::kTransactionalBit;
  const ByteBuffer commit =
      ProducedBatch({Record(std::string("\0\0\0\1", 4), std::string(6, '\0'))}, kafka::Codec::kNone, marker);
  TestRecord readable = ClickOf("anna");
  readable.headers = {{"region", "eu"}};
  ByteBuffer denied = ProducedBatch({ClickOf("bert")});
  denied.pop_back();
  for (const ByteBuffer& whole : {commit, ProducedBatch({readable})}) {
    EXPECT_EQ(*Get("clicks", Joined(whole, denied)).records, Bytes(whole));
  }
}

TEST_F(FetchGuardTest, KeepsControlBatchesAndUnsealedOnesAmongTheOpened) {
  TestBatch marker;
  marker.attributes = kafka::BatchHeader::kControlBit | kafka::BatchHeader::kTransactionalBit;
  marker.baseOffset = 1;
  const ByteBuffer commit =
      ProducedBatch({Record(std::string("\0\0\0\1", 4), std::string(6, '\0'))}, kafka::Codec::kNone, marker);
  const ByteBuffer records = Joined(Joined(SealedClicks({"anna"}), commit), SealedClicks({"bert"}, 2));
  const FetchResponse::Partition partition = Get("clicks", records);
  kafka::BatchReader reader(*partition.records);
  kafka::BatchView batch;
  ASSERT_EQ(reader.Next(batch), kafka::BatchReader::Result::kBatch);
  EXPECT_EQ(Read(batch.whole).records.at(0).value, Click("anna"));
  ASSERT_EQ(reader.Next(batch), kafka::BatchReader::Result::kBatch);
  EXPECT_EQ(batch.whole, Bytes(commit));
  ASSERT_EQ(reader.Next(batch), kafka::BatchReader::Result::kBatch);
  EXPECT_EQ(Read(batch.whole).records.at(0).value, Click("bert"));
  EXPECT_EQ(reader.Next(batch), kafka::BatchReader::Result::kEnd);
}

TEST_F(FetchGuardTest, KeepsPlaintextBeforeASealedBatch) {
  const ByteBuffer plain = ProducedBatch({ClickOf("anna")});
  const FetchResponse::Partition partition = Get("clicks", Joined(plain, SealedClicks({"bert"}, 1)));
  const Bytes records = *partition.records;
  ASSERT_GT(records.size(), plain.size());
  EXPECT_EQ(records.first(plain.size()), Bytes(plain));
  EXPECT_EQ(Read(records.subspan(plain.size())).records.at(0).value, Click("bert"));
}

TEST_F(FetchGuardTest, NeitherAddsNorRemovesAPartition) {
  const ByteBuffer sealed = SealedClicks({"anna"});
  RequestResult asked = Fetch({Asked("clicks"), Asked("private"), Asked("free")});
  FetchResponse response = ResponseOf({Answered("clicks", {Records({}, 3), Records(sealed, 1)}),
                                       Answered("private", {Records({}, 0)}), Answered("free", {Records(sealed, 9)})});
  FetchResponse::Partition& failed = response.responses[0].partitions.emplace_back();
  failed.partitionIndex = 5;
  failed.errorCode = ErrorCode::kOffsetOutOfRange;
  response.responses[0].partitions[1].abortedTransactions.emplace().emplace_back().producerId = 12;
  const ResponseResult answer = Response(*guard_, 12, response, asked.verdict.state.get());
  const auto guarded = WrittenResponse<FetchResponse>(answer.written, 12);
  std::vector<std::string> lines;
  for (const auto& topic : guarded.responses) {
    for (const auto& partition : topic.partitions) {
      lines.push_back(StrCat(topic.topic, "/", partition.partitionIndex, " ", static_cast<int>(partition.errorCode)));
    }
  }
  EXPECT_EQ(lines, (std::vector<std::string>{"clicks/3 0", "clicks/1 0", "clicks/5 1", "private/0 29", "free/9 0"}));
  EXPECT_EQ(guarded.responses[0].partitions[1].abortedTransactions->at(0).producerId, 12);
  EXPECT_EQ(*guarded.responses[2].partitions[0].records, Bytes(sealed)) << "an unprotected topic was touched";
}

TEST_F(FetchGuardTest, LearnsABrokerBeforeTheReaderHearsOfIt) {
  shared_->topicNames.Learn(Id(1), "clicks", connection_);
  RequestResult asked = Fetch({AskedById(Id(1))}, 16);
  FetchResponse response = ResponseOf({});
  response.nodeEndpoints.emplace_back().host = "127.0.0.9";
  response.nodeEndpoints.back().port = 9099;
  EXPECT_TRUE(Response(*guard_, 16, response, asked.verdict.state.get()).forwarded());
  EXPECT_EQ(learned_, (std::vector<std::string>{"127.0.0.9:9099 of target 3"}));
  learnStatus_ = absl::ResourceExhaustedError("the table of targets is full");
  response.nodeEndpoints.back().port = 9100;
  const ResponseResult told = Response(*guard_, 16, response, asked.verdict.state.get());
  EXPECT_TRUE(WrittenResponse<FetchResponse>(told.written, 16).nodeEndpoints.empty());
}

// What is remembered, or logged, of topics holds their names: no name may be longer than Kafka allows.
TEST_F(FetchGuardTest, ClosesOnATopicNameThatNoTopicCanHave) {
  const std::string longest(249, 'a'), tooLong(250, 'a');
  EXPECT_TRUE(Fetch({Asked(longest)}).forwarded());
  EXPECT_TRUE(Fetch({Asked("clicks"), Asked(tooLong)}).closed());
  FetchRequest forget = RequestFor({});
  forget.forgottenTopicsData.emplace_back().topic = tooLong;
  EXPECT_TRUE(Request(*guard_, 12, forget).closed());
  const auto answer = [&](std::string_view name) {
    RequestResult asked = Fetch({Asked("clicks")});
    return Response(*guard_, 12, ResponseOf({Answered(name, {Records({})})}), asked.verdict.state.get());
  };
  EXPECT_TRUE(answer(longest).forwarded());
  EXPECT_TRUE(answer(tooLong).closed()) << "though the broker says it";
}

TEST_F(FetchGuardTest, ClosesOnWhatItCannotRead) {
  for (const int16_t version : {0, 3, 19, 99}) {
    EXPECT_TRUE(RequestBytes(*guard_, kafka::ApiKey::kFetch, version, AsBytes("0123456789")).closed()) << version;
  }
  EXPECT_TRUE(RequestBytes(*guard_, kafka::ApiKey::kFetch, 12, AsBytes("no fetch request")).closed());
  RequestResult asked = Fetch({Asked("clicks")});
  EXPECT_TRUE(ResponseBytes(*guard_, kafka::ApiKey::kFetch, 12, AsBytes("no fetch response"), asked.verdict.state.get())
                  .closed());
}

}  // namespace
}  // namespace kveil::guard
