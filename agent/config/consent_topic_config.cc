#include "config/consent_topic_config.h"

#include <algorithm>

#include "base/text.h"

namespace kveil::config {
namespace {

constexpr size_t kMostTopics = 8;
constexpr size_t kLongestKeyspace = 249;

ConsentTopicConfig ReadTopic(const JsonValue& value) {
  ConsentTopicConfig topic;
  const JsonObject object(value,
                          {"keyspace", "topic", "bootstrapServers", "as", "cluster", "tls", "sasl", "staleAfter"});
  if (const auto keyspace = object.Require("keyspace")) {
    topic.keyspace = keyspace->String();
    if (topic.keyspace.size() > kLongestKeyspace) keyspace->Expected("a shorter keyspace");
  }
  topic.topic = ReadTopicName(object, "topic");
  topic.client = ReadKafkaClient(object);
  if (const auto as = object.Find("as")) {
    topic.as = as->OneOf<const char*>(
        {{"text", "text"}, {"int64", "int64"}, {"uuid", "uuid"}, {"hex", "hex"}, {"base64", "base64"}});
  }
  if (const auto after = object.Find("staleAfter")) {
    topic.staleAfter = after->Duration(std::chrono::seconds(5), std::chrono::hours(30 * 24));
  }
  return topic;
}

}  // namespace

std::vector<ConsentTopicConfig> ReadConsentTopics(const JsonValue& value) {
  std::vector<ConsentTopicConfig> topics;
  const std::vector<JsonValue> items = value.List();
  if (items.size() > kMostTopics) value.Error(StrCat("expected at most ", kMostTopics, " topics"));
  for (const JsonValue& item : items) {
    ConsentTopicConfig topic = ReadTopic(item);
    const bool isTwice = std::any_of(topics.begin(), topics.end(),
                                     [&](const ConsentTopicConfig& other) { return other.keyspace == topic.keyspace; });
    if (isTwice) item.Error("another topic feeds this keyspace already");
    topics.push_back(std::move(topic));
  }
  return topics;
}

}  // namespace kveil::config
