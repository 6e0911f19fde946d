#include "consents/topic_position.h"

#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::consents {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string Encode(const TopicPosition& position) {
  Json partitions = Json::array();
  for (const TopicPosition::Partition& one : position.partitions) {
    partitions.push_back(Json::array({one.next, one.last, one.time}));
  }
  const TopicPosition::Unreadable& unreadable = position.unreadable;
  const Json json = {
      {"topic", position.topic},
      {"as", position.as},
      {"cluster", position.cluster},
      {"current", position.current},
      {"unreadable", Json::array({unreadable.count, unreadable.partition, unreadable.offset, unreadable.reason})},
      {"leftOut", position.hasLeftOut},
      {"partitions", std::move(partitions)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<TopicPosition> Decode(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  TopicPosition position;
  try {
    position.topic = json.at("topic").get<std::string>();
    position.as = json.at("as").get<std::string>();
    position.cluster = json.at("cluster").get<std::string>();
    position.current = json.at("current").get<int64_t>();
    const Json& unreadable = json.at("unreadable");
    position.unreadable = {unreadable.at(0).get<uint64_t>(), unreadable.at(1).get<int32_t>(),
                           unreadable.at(2).get<int64_t>(), unreadable.at(3).get<std::string>()};
    position.hasLeftOut = json.at("leftOut").get<bool>();
    for (const Json& one : json.at("partitions")) {
      position.partitions.push_back({one.at(0).get<int64_t>(), one.at(1).get<int64_t>(), one.at(2).get<int64_t>()});
    }
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  if (Encode(position) != text) return std::nullopt;
  return position;
}

std::string Describe(const TopicPosition::Unreadable& unreadable) {
  if (unreadable.count == 0) return "";
  return StrCat("; ", unreadable.count, " record(s) cannot be read, the last one in partition ", unreadable.partition,
                " at offset ", unreadable.offset, ": ", unreadable.reason);
}

}  // namespace kveil::consents
