// A topic on librdkafka's mock brokers, in this process.
#pragma once

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace kveil::consents {

class MockTopic {
 public:
  explicit MockTopic(int partitions, const std::string& topic = "consents") : topic_(topic) {
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    char error[512];
    client_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
    cluster_ = rd_kafka_mock_cluster_new(client_, 1);
    rd_kafka_mock_topic_create(cluster_, topic_.c_str(), partitions, 1);
    rd_kafka_conf_t* const ofProducer = rd_kafka_conf_new();
    rd_kafka_conf_set(ofProducer, "bootstrap.servers", servers().c_str(), error, sizeof(error));
    rd_kafka_conf_set(ofProducer, "linger.ms", "0", error, sizeof(error));
    producer_ = rd_kafka_new(RD_KAFKA_PRODUCER, ofProducer, error, sizeof(error));
  }
  ~MockTopic() {
    rd_kafka_destroy(producer_);
    rd_kafka_mock_cluster_destroy(cluster_);
    rd_kafka_destroy(client_);
  }

  std::string servers() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }

  // Is acknowledged when it returns. nullopt: a tombstone.
  void Produce(const std::string& key, const std::optional<std::string>& value, int32_t partition = 0,
               absl::Time time = absl::Now()) {
    Send(key, value, partition, time);
    Flush();
  }

  // Without waiting.
  void Send(const std::string& key, const std::optional<std::string>& value, int32_t partition = 0,
            absl::Time time = absl::Now()) {
    // Parameters of NULL are none.
    const rd_kafka_resp_err_t error = rd_kafka_producev(
        producer_, RD_KAFKA_V_TOPIC(topic_.c_str()), RD_KAFKA_V_PARTITION(partition),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(key.data(), key.size()),
        RD_KAFKA_V_VALUE(value.has_value() ? const_cast<char*>(value->data()) : nullptr, value.value_or("").size()),
        RD_KAFKA_V_TIMESTAMP(absl::ToUnixMillis(time)), RD_KAFKA_V_END);
    EXPECT_EQ(error, RD_KAFKA_RESP_ERR_NO_ERROR);
  }
  // All that was sent is acknowledged when it returns.
  void Flush() { EXPECT_EQ(rd_kafka_flush(producer_, 20'000), RD_KAFKA_RESP_ERR_NO_ERROR); }

  void SetDown(bool isDown) {
    if (isDown) {
      rd_kafka_mock_broker_set_down(cluster_, 1);
    } else {
      rd_kafka_mock_broker_set_up(cluster_, 1);
    }
  }

  // Refuses the next produce request of any client.
  void RefuseNextWrite() {
    constexpr int16_t kProduce = 0;
    rd_kafka_mock_push_request_errors(cluster_, kProduce, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
  }

 private:
  const std::string topic_;
  rd_kafka_t* client_;
  rd_kafka_mock_cluster_t* cluster_;
  rd_kafka_t* producer_;
};

}  // namespace kveil::consents
