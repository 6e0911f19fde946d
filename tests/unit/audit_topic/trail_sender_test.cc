// What is in the topic, whatever happens between the folder and the brokers: each line, in order, and nothing missing
// without a word.
#include "audit_topic/trail_sender.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "../audit/trail_folder.h"
#include "../consents/mock_topic.h"
#include "audit/lines.h"
#include "audit/trail.h"
#include "audit/trail_reader.h"
#include "audit_topic/sent_position.h"
#include "base/text.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit_topic {
namespace {

using audit::ChainPlaceOf;
using audit::Trail;
using consents::MockTopic;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Json = nlohmann::json;

constexpr char kTopic[] = "kveil-audit";

// All values that are in the topic now, and their keys.
struct Records {
  std::vector<std::string> values;
  std::set<std::string> keys;

  // Of the lines, in their order; those that come again, too.
  std::vector<uint64_t> Numbers() const {
    std::vector<uint64_t> numbers;
    for (const std::string& value : values) {
      if (const auto place = ChainPlaceOf(value); place.has_value()) numbers.push_back(place->seq);
    }
    return numbers;
  }
  std::vector<Json> OfKind(const std::string& kind) const {
    std::vector<Json> found;
    for (const std::string& value : values) {
      const Json json = Json::parse(value);
      if (json.at("kind") == kind && !json.contains("seq")) found.push_back(json);
    }
    return found;
  }
};

class TrailSenderTest : public audit::TrailFolder {
 protected:
  void Start() { Start(brokers_, kTopic); }
  void Start(const MockTopic& brokers, const std::string& topic) {
    TrailSenderOptions options;
    options.folder = folder_;
    options.agent = "agent-1";
    options.client.connection.bootstrapServers = {brokers.servers()};
    options.client.topic = topic;
    options.client.event = "audit.client";
    options.look = milliseconds(20);
    options.pause = milliseconds(100);
    sender_ = std::make_unique<TrailSender>(std::move(options));
  }
  void Stop() { sender_.reset(); }
  static bool Comes(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + seconds(60);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return true;
  }
  // Whether all that is signed is acknowledged, and it is on disk that it is.
  bool IsSent() {
    return Comes([this] {
      const auto position = ReadPosition(folder_);
      return position.ok() && position->has_value() && (*position)->line.hash == trail_->head().hash &&
             (*position)->line.seq == trail_->head().last;
    });
  }
  Records Read() const { return Read(brokers_, kTopic); }
  static Records Read(const MockTopic& brokers, const std::string& topic) {
    Records records;
    char error[512];
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers.servers().c_str(), error, sizeof(error));
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", error, sizeof(error));
    rd_kafka_t* const consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
    rd_kafka_topic_t* const handle = rd_kafka_topic_new(consumer, topic.c_str(), nullptr);
    EXPECT_EQ(rd_kafka_consume_start(handle, 0, RD_KAFKA_OFFSET_BEGINNING), 0);
    const auto until = std::chrono::steady_clock::now() + seconds(60);
    for (bool isEnd = false; !isEnd && std::chrono::steady_clock::now() < until;) {
      rd_kafka_message_t* const message = rd_kafka_consume(handle, 0, 1000);
      if (message == nullptr) continue;
      isEnd = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        records.values.emplace_back(static_cast<const char*>(message->payload), message->len);
        records.keys.emplace(static_cast<const char*>(message->key), message->key_len);
      }
      rd_kafka_message_destroy(message);
    }
    rd_kafka_consume_stop(handle, 0);
    rd_kafka_topic_destroy(handle);
    rd_kafka_destroy(consumer);
    return records;
  }
  // What docs/audit.md does to verify a topic's records.
  audit::Verification Verify(const Records& records) const {
    const std::string folder = parent_ + "/copy";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    std::string lines;
    std::set<std::string> seen;
    for (const std::string& value : records.values) {
      if (ChainPlaceOf(value).has_value() && seen.insert(value).second) StrAppend(&lines, value, "\n");
    }
    EXPECT_TRUE(evidence::WriteFile(folder + "/000000000001.1970-01-01.jsonl", lines, 0600).ok());
    const std::string head = records.OfKind("head").back().at("head");
    EXPECT_TRUE(evidence::WriteFile(folder + "/head", head, 0600).ok());
    const auto found = audit::ReadTrail(folder, *audit::ReadPublicKey(folder_, ""), [](const std::string&) {});
    EXPECT_TRUE(found.ok()) << found.status();
    return found.value_or(audit::Verification());
  }

  MockTopic brokers_{1, kTopic};
  std::unique_ptr<TrailSender> sender_;
};

TEST_F(TrailSenderTest, EachLineComesOnceInOrderWithWhatVerifiesIt) {
  Append(3);
  Start();
  ASSERT_TRUE(IsSent());
  Append(2, absl::Hours(24));
  ASSERT_TRUE(IsSent());
  Stop();
  const Records records = Read();
  EXPECT_THAT(records.Numbers(), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(records.keys, ElementsAre(*TrailId(folder_)));
  const audit::Verification found = Verify(records);
  EXPECT_THAT(found.faults, IsEmpty());
  EXPECT_EQ(found.last, 5u);
  EXPECT_EQ(found.hash, trail_->head().hash);
  Records fewer = records;
  std::erase_if(fewer.values, [](const std::string& value) { return value.starts_with("{\"seq\":2,"); });
  EXPECT_THAT(Verify(fewer).faults, ElementsAre("000000000001.1970-01-01.jsonl: line 3 follows line 1"));
}

TEST_F(TrailSenderTest, AnAgentThatTakesOverGoesOnWhereTheLinesWereAcknowledged) {
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  EXPECT_THAT(Read().Numbers(), ElementsAre(1, 2, 3, 4));
}

TEST_F(TrailSenderTest, AfterACrashBeforeThePositionWasWrittenLinesComeAgainAndNoneIsMissing) {
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  const std::string before = *evidence::ReadFile(folder_ + "/sent.json");
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  ASSERT_TRUE(evidence::WriteFile(folder_ + "/sent.json", before, 0600).ok());  // as if it had crashed
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  const Records records = Read();
  EXPECT_THAT(records.Numbers(), ElementsAre(1, 2, 3, 4, 3, 4, 5));
  EXPECT_THAT(Verify(records).faults, IsEmpty());
}

TEST_F(TrailSenderTest, APositionThatWasDamagedHasAllSentAgain) {
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  ASSERT_TRUE(evidence::WriteFile(folder_ + "/sent.json", "{\"cluster\":\"", 0600).ok());
  Start();
  ASSERT_TRUE(IsSent());
  EXPECT_THAT(Read().Numbers(), ElementsAre(1, 2, 1, 2));
}

TEST_F(TrailSenderTest, AnotherTopicAndAnotherClusterGetTheWholeTrail) {
  const MockTopic others(1, "other");
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  Start(others, "other");
  ASSERT_TRUE(Comes([this] { return (*ReadPosition(folder_))->topic == "other"; }));
  ASSERT_TRUE(IsSent());
  Stop();
  EXPECT_THAT(Read(others, "other").Numbers(), ElementsAre(1, 2));
  const MockTopic third(1, "other");
  Append(1);
  Start(third, "other");
  ASSERT_TRUE(IsSent());
  EXPECT_THAT(Read(third, "other").Numbers(), ElementsAre(1, 2, 3));
}

TEST_F(TrailSenderTest, ATopicThatWasMadeAnewGetsTheWholeTrail) {
  Append(2);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  SentPosition position = **ReadPosition(folder_);
  ASSERT_TRUE(position.spot.has_value());
  position.spot->offset += 1000;  // as if there had been more in the topic
  ASSERT_TRUE(WritePosition(folder_, position).ok());
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  Append(1);
  ASSERT_TRUE(IsSent());
  Stop();
  EXPECT_THAT(Read().Numbers(), ElementsAre(1, 2, 3, 1, 2, 3, 4));
  position = **ReadPosition(folder_);
  position.spot.reset();  // as an earlier version has written it
  ASSERT_TRUE(WritePosition(folder_, position).ok());
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  EXPECT_THAT(Read().Numbers(), ElementsAre(1, 2, 3, 1, 2, 3, 4, 5));
}

TEST_F(TrailSenderTest, WhileTheBrokersAreAwayItSaysSoAndNothingIsLost) {
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  brokers_.SetDown(true);
  Start();
  Append(2);
  ASSERT_TRUE(Comes([this] { return !sender_->status().problem.ok() && sender_->status().behind == 2; }));
  EXPECT_THAT(sender_->status().problem.message(), HasSubstr("the audit trail cannot be sent: topic kveil-audit: "));
  EXPECT_EQ((*ReadPosition(folder_))->line.seq, 1u) << "what is not acknowledged is not noted as sent";
  brokers_.SetDown(false);
  ASSERT_TRUE(IsSent());
  ASSERT_TRUE(Comes([this] { return sender_->status().behind == 0 && sender_->status().problem.ok(); }))
      << sender_->status().problem;
  EXPECT_EQ(sender_->status().note, "the audit trail is in topic kveil-audit up to line 3; 0 lines wait to be sent");
  EXPECT_THAT(Read().Numbers(), ElementsAre(1, 2, 3));
}

TEST_F(TrailSenderTest, WhatTheBrokersRefusedIsSentAgain) {
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  brokers_.RefuseNextWrite();
  Append(2);
  ASSERT_TRUE(Comes([this] { return !sender_->status().problem.ok(); }));
  ASSERT_TRUE(IsSent());
  ASSERT_TRUE(Comes([this] { return sender_->status().behind == 0 && sender_->status().problem.ok(); }));
  const Records records = Read();
  const std::vector<uint64_t> numbers = records.Numbers();
  EXPECT_THAT(std::set<uint64_t>(numbers.begin(), numbers.end()), ElementsAre(1, 2, 3));
  EXPECT_THAT(Verify(records).faults, IsEmpty());
}

TEST_F(TrailSenderTest, WhatWasRemovedBeforeItWasSentIsToldInTheTopicAndForADay) {
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  Stop();
  Append(3, absl::Hours(24));
  Open({.bytes = 1});
  Append(1, absl::Hours(24));
  Append(1, absl::Hours(24));
  ASSERT_EQ(trail_->head().first, 5u);
  for (int agents = 0; agents < 2; ++agents) {
    Start();
    ASSERT_TRUE(IsSent());
    ASSERT_TRUE(Comes([this] { return !sender_->status().problem.ok(); }));
    EXPECT_EQ(sender_->status().problem.message(),
              "lines 2 to 4 of the audit trail were removed before they could be sent to topic kveil-audit");
    Stop();
  }
  const Records records = Read();
  ASSERT_EQ(records.OfKind("notSent").size(), 1u);
  EXPECT_EQ(records.OfKind("notSent")[0].at("first"), 2);
  EXPECT_EQ(records.OfKind("notSent")[0].at("last"), 4);
  EXPECT_EQ(records.Numbers().front(), 1u);
  EXPECT_EQ(records.Numbers().at(1), 5u);
}

TEST_F(TrailSenderTest, AnEndSendsWhatIsThereAndWaitsForNoBrokers) {
  Append(1);
  Start();
  ASSERT_TRUE(IsSent());
  Append(2);
  sender_->Stop(seconds(60));
  EXPECT_THAT(Read().Numbers(), ElementsAre(1, 2, 3));
  brokers_.SetDown(true);
  Append(1);
  Start();
  const auto begun = std::chrono::steady_clock::now();
  sender_->Stop(milliseconds(100));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(30));
}

}  // namespace
}  // namespace kveil::audit_topic
