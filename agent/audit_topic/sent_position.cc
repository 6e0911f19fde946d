#include "audit_topic/sent_position.h"

#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit_topic {
namespace {

using Json = nlohmann::ordered_json;

std::string PathIn(const std::string& folder) { return folder + "/sent.json"; }

std::string TextOf(const SentPosition& position) {
  Json json = {{"cluster", position.cluster},
               {"topic", position.topic},
               {"seq", position.line.seq},
               {"hash", position.line.hash}};
  if (position.missed.has_value()) {
    json["missed"] = {
        {"first", position.missed->first}, {"last", position.missed->last}, {"time", position.missed->time}};
  }
  if (position.spot.has_value()) {
    json["record"] = {{"partition", position.spot->partition}, {"offset", position.spot->offset}};
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<SentPosition> PositionIn(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  SentPosition position;
  try {
    position.cluster = json.at("cluster").get<std::string>();
    position.topic = json.at("topic").get<std::string>();
    position.line = {json.at("seq").get<uint64_t>(), json.at("hash").get<std::string>()};
    if (json.contains("missed")) {
      const Json& missed = json.at("missed");
      position.missed = {missed.at("first").get<uint64_t>(), missed.at("last").get<uint64_t>(),
                         missed.at("time").get<std::string>()};
    }
    if (json.contains("record")) {
      const Json& record = json.at("record");
      position.spot = {record.at("partition").get<int32_t>(), record.at("offset").get<int64_t>()};
    }
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  if (TextOf(position) != text) return std::nullopt;
  return position;
}

}  // namespace

absl::StatusOr<std::optional<SentPosition>> ReadPosition(const std::string& folder) {
  const absl::StatusOr<std::string> text = evidence::ReadFile(PathIn(folder));
  if (absl::IsNotFound(text.status())) return std::nullopt;
  if (!text.ok()) return text.status();
  return PositionIn(*text);
}

absl::Status WritePosition(const std::string& folder, const SentPosition& position) {
  return evidence::WriteFile(PathIn(folder), TextOf(position), 0600);
}

}  // namespace kveil::audit_topic
