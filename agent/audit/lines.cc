#include "audit/lines.h"

#include <algorithm>

#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using Json = nlohmann::ordered_json;

// Names come from brokers, kernels and files: whatever is no UTF-8 is replaced.
std::string Text(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json Begin(const char* kind, const TimeSpan& span, const Use& use, const Counted& counted) {
  Json json = {{"kind", kind}, {"from", TextOf(span.from)}, {"to", TextOfEnd(span.to)}};
  const auto put = [&json](const char* name, const std::string& text) {
    if (!text.empty()) json[name] = text;
  };
  put("workload", counted.name);
  put("serviceAccount", counted.serviceAccount);
  put("share", use.share);
  if (!use.topic.empty()) json["uid"] = use.uid;
  json["access"] = use.access == Access::kRead ? "read" : "write";
  put("cluster", use.cluster);
  if (use.topic.empty()) {
    json["others"] = true;
  } else {
    json["topic"] = use.topic;
  }
  put("file", use.file);
  if (use.entry > 0) json["entry"] = use.entry;
  return json;
}

}  // namespace

std::string LineOfUse(const TimeSpan& span, const Use& use, const Counted& counted) {
  Json json = Begin("use", span, use, counted);
  const Counts& counts = counted.counts;
  for (const auto& [name, count] :
       {std::pair{"records", counts.records}, std::pair{"leftOut", counts.leftOut}, std::pair{"erased", counts.erased},
        std::pair{"plaintext", counts.plaintext}, std::pair{"refused", counts.refused},
        std::pair{"denials", counts.denials}, std::pair{"withoutUser", counts.withoutUser}}) {
    if (count > 0) json[name] = count;
  }
  if (counted.isByUser) json["byUser"] = true;
  return Text(json);
}

std::vector<std::string> LinesOfUsers(const TimeSpan& span, const Use& use, const Counted& counted,
                                      const std::vector<std::pair<std::string, uint64_t>>& users,
                                      const std::string& registry) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < users.size(); i += kMostUsersOfALine) {
    Json json = Begin("users", span, use, counted);
    if (!registry.empty()) json["registry"] = registry;
    Json& some = json["users"] = Json::object();
    for (size_t k = i; k < std::min(i + kMostUsersOfALine, users.size()); ++k) some[users[k].first] = users[k].second;
    lines.push_back(Text(json));
  }
  return lines;
}

std::string LineOfStart(const Started& started, const std::string& agent, const std::string& version) {
  Json json = {{"kind", "started"},
               {"time", TextOf(started.time)},
               {"opened", TextOfEnd(started.opened)},
               {"agent", agent},
               {"version", version}};
  if (started.unknownSince.has_value()) json["unknownSince"] = TextOf(*started.unknownSince);
  return Text(json);
}

std::string LineOfClock(absl::Time before, absl::Time after) {
  return Text(Json{{"kind", "clock"}, {"before", TextOf(before)}, {"after", TextOf(after)}});
}

std::string LineOfEnd(absl::Time time) { return Text(Json{{"kind", kKindOfEnd}, {"time", TextOf(time)}}); }

std::string LineOfLost(const Lost& lost) {
  return Text(Json{{"kind", "lost"},
                   {"from", TextOf(lost.from)},
                   {"to", TextOfEnd(lost.to)},
                   {"lines", lost.lines},
                   {"records", lost.records}});
}

std::optional<ChainPlace> ChainPlaceOf(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto seq = json.find("seq");
  const auto previous = json.find("previous");
  if (seq == json.end() || !seq->is_number_unsigned() || previous == json.end() || !previous->is_string()) {
    return std::nullopt;
  }
  return ChainPlace{seq->get<uint64_t>(), previous->get<std::string>()};
}

std::string KindOf(const std::string& line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "";
  const auto kind = json.find("kind");
  return kind != json.end() && kind->is_string() ? kind->get<std::string>() : "";
}

}  // namespace kveil::audit
