#include "config/consent_topic_config.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/host_name.h"
#include "base/socket_address.h"
#include "base/text.h"
#include "config/target_text.h"

namespace kveil::config {
namespace {

constexpr size_t kMostTopics = 8;
constexpr size_t kMostServers = 16;
constexpr size_t kLongestKeyspace = 249;
constexpr size_t kLongestTopic = 249;  // Kafka's own limit

bool IsTopicName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestTopic && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; });
}

// An address and a port, or a host name and a port.
bool IsServer(const std::string& text) {
  if (ParseEndpoint(text).has_value()) return true;
  const size_t colon = text.rfind(':');
  int port = 0;
  return colon != std::string::npos && IsHostName(std::string_view(text).substr(0, colon)) &&
         std::all_of(text.begin() + colon + 1, text.end(), [](char c) { return absl::ascii_isdigit(c); }) &&
         absl::SimpleAtoi(text.substr(colon + 1), &port) && port >= 1 && port <= 65535;
}

void ReadPath(const JsonObject& object, std::string_view key, std::string& path) {
  if (const auto value = object.Find(key)) path = value->FilePath();
}

ConsentTopicConfig::Tls ReadTls(const JsonValue& value) {
  ConsentTopicConfig::Tls tls;
  const JsonObject object(value, {"ca", "certificate", "key", "crl"});
  ReadPath(object, "ca", tls.ca);
  ReadPath(object, "certificate", tls.certificate);
  ReadPath(object, "key", tls.key);
  ReadPath(object, "crl", tls.crl);
  if (tls.certificate.empty() != tls.key.empty()) value.Error("expected certificate and key together");
  return tls;
}

ConsentTopicConfig::Sasl ReadSasl(const JsonValue& value) {
  ConsentTopicConfig::Sasl sasl;
  const JsonObject object(value, {"mechanism", "username", "passwordFile"});
  if (const auto mechanism = object.Require("mechanism")) {
    sasl.mechanism = mechanism->OneOf<const char*>(
        {{"PLAIN", "PLAIN"}, {"SCRAM-SHA-256", "SCRAM-SHA-256"}, {"SCRAM-SHA-512", "SCRAM-SHA-512"}});
  }
  if (const auto username = object.Require("username")) sasl.username = username->String();
  if (const auto file = object.Require("passwordFile")) sasl.passwordFile = file->FilePath();
  return sasl;
}

ConsentTopicConfig ReadTopic(const JsonValue& value) {
  ConsentTopicConfig topic;
  const JsonObject object(value,
                          {"keyspace", "topic", "bootstrapServers", "as", "cluster", "tls", "sasl", "staleAfter"});
  if (const auto keyspace = object.Require("keyspace")) {
    topic.keyspace = keyspace->String();
    if (topic.keyspace.size() > kLongestKeyspace) keyspace->Expected("a shorter keyspace");
  }
  if (const auto name = object.Require("topic")) {
    topic.topic = name->String();
    if (!IsTopicName(topic.topic)) name->Expected("a topic's name");
  }
  if (const auto servers = object.Require("bootstrapServers")) {
    const std::vector<JsonValue> items = servers->List();
    if (items.empty() || items.size() > kMostServers) {
      servers->Error(StrCat("expected 1 to ", kMostServers, " brokers"));
    }
    for (const JsonValue& item : items) {
      topic.bootstrapServers.push_back(item.String());
      if (!IsServer(topic.bootstrapServers.back())) item.Expected("a broker such as \"kafka.example:9092\"");
    }
  }
  if (const auto as = object.Find("as")) {
    topic.as = as->OneOf<const char*>(
        {{"text", "text"}, {"int64", "int64"}, {"uuid", "uuid"}, {"hex", "hex"}, {"base64", "base64"}});
  }
  if (const auto cluster = object.Find("cluster")) topic.cluster = cluster->String();
  if (const auto tls = object.Find("tls")) topic.tls = ReadTls(*tls);
  if (const auto sasl = object.Find("sasl")) topic.sasl = ReadSasl(*sasl);
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
