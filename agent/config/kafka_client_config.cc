#include "config/kafka_client_config.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/host_name.h"
#include "base/socket_address.h"
#include "base/text.h"
#include "config/target_text.h"
#include "config/topic_name.h"

namespace kveil::config {
namespace {

constexpr size_t kMostServers = 16;

// An address and a port, or a host name and a port.
bool IsServer(const std::string& text) {
  if (ParseEndpoint(text).has_value()) return true;
  const size_t colon = text.rfind(':');
  int port = 0;
  return colon != std::string::npos && IsHostName(std::string_view(text).substr(0, colon)) &&
         std::all_of(text.begin() + colon + 1, text.end(), [](char c) { return absl::ascii_isdigit(c); }) &&
         absl::SimpleAtoi(text.substr(colon + 1), &port) && port >= 1 && port <= 65535;
}

KafkaClientConfig::Tls ReadTls(const JsonValue& value) {
  KafkaClientConfig::Tls tls;
  const JsonObject object(value, {"ca", "certificate", "key", "crl"});
  ReadPath(object, "ca", tls.ca);
  ReadPath(object, "certificate", tls.certificate);
  ReadPath(object, "key", tls.key);
  ReadPath(object, "crl", tls.crl);
  if (tls.certificate.empty() != tls.key.empty()) value.Error("expected certificate and key together");
  return tls;
}

KafkaClientConfig::Sasl ReadSasl(const JsonValue& value) {
  KafkaClientConfig::Sasl sasl;
  const JsonObject object(value, {"mechanism", "username", "passwordFile"});
  if (const auto mechanism = object.Require("mechanism")) {
    sasl.mechanism = mechanism->OneOf<const char*>(
        {{"PLAIN", "PLAIN"}, {"SCRAM-SHA-256", "SCRAM-SHA-256"}, {"SCRAM-SHA-512", "SCRAM-SHA-512"}});
  }
  if (const auto username = object.Require("username")) sasl.username = username->String();
  if (const auto file = object.Require("passwordFile")) sasl.passwordFile = file->FilePath();
  return sasl;
}

}  // namespace

KafkaClientConfig ReadKafkaClient(const JsonObject& object) {
  KafkaClientConfig client;
  if (const auto servers = object.Require("bootstrapServers")) {
    const std::vector<JsonValue> items = servers->List();
    if (items.empty() || items.size() > kMostServers) {
      servers->Error(StrCat("expected 1 to ", kMostServers, " brokers"));
    }
    for (const JsonValue& item : items) {
      client.bootstrapServers.push_back(item.String());
      if (!IsServer(client.bootstrapServers.back())) item.Expected("a broker such as \"kafka.example:9092\"");
    }
  }
  if (const auto cluster = object.Find("cluster")) client.cluster = cluster->String();
  if (const auto tls = object.Find("tls")) client.tls = ReadTls(*tls);
  if (const auto sasl = object.Find("sasl")) client.sasl = ReadSasl(*sasl);
  return client;
}

std::string ReadTopicName(const JsonObject& object, std::string_view key) {
  const auto value = object.Require(key);
  if (!value.has_value()) return "";
  std::string name = value->String();
  if (!IsTopicName(name)) value->Expected("a topic's name");
  return name;
}

}  // namespace kveil::config
