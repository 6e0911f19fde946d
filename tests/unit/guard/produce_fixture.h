// A ProduceGuard without a connection around it, and the requests that tests send through it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "guard/apis/produce_guard.h"
#include "interceptor_fixture.h"
#include "kafka/messages/describe_configs.h"

namespace kveil::guard {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;

inline constexpr char kProduceTopics[] = R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}},
                               "read": [{"any": true}]},
                              {"name": "orders", "seal": {"scope": "topic"}, "read": [{"any": true}]},
                              {"name": "readonly", "read": [{"any": true}]})";

class ProduceGuardTest : public InterceptorTest {
 protected:
  ProduceGuardTest() {
    UseTopics(kProduceTopics);
    guard_ = NewConnection();
    good_ = ProducedBatch({ClickOf("anna"), ClickOf("bert")});
    bad_ = ProducedBatch({ClickOf("anna"), Record("k", "{}")});
  }

  std::unique_ptr<ProduceGuard> NewConnection() { return std::make_unique<ProduceGuard>(Context()); }

  static ProduceRequest::Topic Topic(std::string_view name, std::vector<std::pair<int32_t, Bytes>> partitions) {
    ProduceRequest::Topic topic;
    topic.name = name;
    for (const auto& [index, records] : partitions) {
      ProduceRequest::Partition& partition = topic.partitionData.emplace_back();
      partition.index = index;
      partition.records = records;
    }
    return topic;
  }
  static ProduceRequest::Topic TopicById(kafka::TopicId id, std::vector<std::pair<int32_t, Bytes>> partitions) {
    ProduceRequest::Topic topic = Topic("", std::move(partitions));
    topic.topicId = id;
    return topic;
  }
  RequestResult Produce(std::vector<ProduceRequest::Topic> topics, int16_t version = 9, int16_t acks = -1) {
    ProduceRequest request;
    request.acks = acks;
    request.timeoutMs = 30'000;
    request.topicData = std::move(topics);
    return Request(*guard_, version, request);
  }
  // A broker that takes everything that was forwarded.
  static ProduceResponse Accepted(const ProduceRequest& request) {
    ProduceResponse response;
    for (const ProduceRequest::Topic& topic : request.topicData) {
      ProduceResponse::Topic& answered = response.responses.emplace_back();
      answered.name = topic.name;
      answered.topicId = topic.topicId;
      for (const ProduceRequest::Partition& partition : topic.partitionData) {
        ProduceResponse::Partition& result = answered.partitionResponses.emplace_back();
        result.index = partition.index;
        result.baseOffset = 900;
      }
    }
    return response;
  }
  // "topic/partition code baseOffset", sorted.
  static std::vector<std::string> Lines(const ProduceResponse& response) {
    std::vector<std::string> lines;
    for (const ProduceResponse::Topic& topic : response.responses) {
      for (const ProduceResponse::Partition& partition : topic.partitionResponses) {
        lines.push_back(StrCat(topic.name, "/", partition.index, " ", static_cast<int>(partition.errorCode), " ",
                               partition.baseOffset));
      }
    }
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  bool AllRefused(const RequestResult& result, int16_t version = 9) {
    return result.rewritten() && WrittenRequest<ProduceRequest>(result.written, version).topicData.empty();
  }
  ProduceResponse Refusals(const RequestResult& result, int16_t version = 9) {
    return AnswerToNothing<ProduceRequest, ProduceResponse>(*guard_, result, version);
  }
  // The one code that the client hears of a request for one partition; 0 when that was forwarded.
  int CodeOf(const RequestResult& result, int16_t version = 9) {
    if (!AllRefused(result, version)) return 0;
    const ProduceResponse response = Refusals(result, version);
    EXPECT_EQ(response.responses.size(), 1u);
    EXPECT_EQ(response.responses[0].partitionResponses.size(), 1u);
    return static_cast<int>(response.responses[0].partitionResponses[0].errorCode);
  }
  ByteBuffer BatchOf(int32_t sequence, const TestRecord& record, int16_t epoch = 0) {
    TestBatch batch;
    batch.producerId = 7;
    batch.producerEpoch = epoch;
    batch.baseSequence = sequence;
    return ProducedBatch({record}, kafka::Codec::kNone, batch);
  }

  std::unique_ptr<ProduceGuard> guard_;
  ByteBuffer good_;
  ByteBuffer bad_;
};

// With a topic whose limit matters.
class TopicLimitTest : public ProduceGuardTest {
 protected:
  // A batch of records that hardly compress, of about 40 KB, which sealing makes about a fifth longer.
  TopicLimitTest() {
    for (int i = 0; i < 300; ++i) records_.push_back(Record("k", Noise(130)));
    batch_ = ProducedBatch(records_);
  }

  std::string Noise(size_t size, unsigned symbols = 64) {
    std::string text(size, '\0');
    for (char& byte : text) byte = static_cast<char>('!' + random_() % symbols);
    return text;
  }
  static ByteBuffer LimitAnswer(std::string_view limit, ErrorCode error = ErrorCode::kNone) {
    kafka::DescribeConfigsResponse response;
    kafka::DescribeConfigsResponse::Result& result = response.results.emplace_back();
    result.errorCode = error;
    result.resourceType = kafka::ConfigResourceType::kTopic;
    result.resourceName = "orders";
    kafka::DescribeConfigsResponse::Config& config = result.configs.emplace_back();
    config.name = "max.message.bytes";
    config.value = limit;
    return BodyOf(response, 1);
  }
  // As the limit; it takes every batch.
  void BrokerSays(std::string_view limit, ErrorCode error = ErrorCode::kNone) {
    limitAnswer_ = [limit = std::string(limit), error] { return LimitAnswer(limit, error); };
    upstream_.respond = [this](const FakeUpstream::Asked& asked) -> absl::StatusOr<ByteBuffer> {
      if (asked.apiKey == kafka::ApiKey::kDescribeConfigs) return limitAnswer_();
      ++ahead_;
      const auto request = kafka::Decode<ProduceRequest>(asked.body, asked.version);
      EXPECT_TRUE(request.ok()) << request.status();
      return BodyOf(Accepted(*request), asked.version);
    };
  }
  size_t Questions() const {
    return static_cast<size_t>(std::count_if(upstream_.asked.begin(), upstream_.asked.end(), [](const auto& asked) {
      return asked.apiKey == kafka::ApiKey::kDescribeConfigs;
    }));
  }
  // In how many parts the broker gets a batch for "orders".
  size_t PartsOf(std::vector<std::pair<int32_t, Bytes>> partitions) {
    if (!upstream_.respond) BrokerSays("52000");
    ahead_ = 0;
    const RequestResult result = Produce({Topic("orders", std::move(partitions))});
    return ahead_ + (result.rewritten() && !AllRefused(result) ? 1 : 0);
  }

  std::function<absl::StatusOr<ByteBuffer>()> limitAnswer_;
  size_t ahead_ = 0;  // requests with parts that the broker got ahead of the last

  std::mt19937 random_{1};
  std::vector<TestRecord> records_;
  ByteBuffer batch_;
};

}  // namespace kveil::guard
