#include "receipts/receipt.h"

#include "base/status_macros.h"
#include "nlohmann/json.hpp"

namespace kveil::receipts {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;

absl::StatusOr<Json> Parse(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.value("kveilReceipt", Json()) == kFormat) return json;
  return absl::InvalidArgumentError("it is no receipt, or of a version that this program does not know");
}

// Empty when there is none.
std::string TextAt(const Json& json, const char* name) {
  if (!json.is_object()) return "";
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

const char* NameOf(Receipt::Kind kind) {
  switch (kind) {
    case Receipt::Kind::kErasure:
      return "erasure";
    case Receipt::Kind::kConfirmation:
      return "confirmation";
    case Receipt::Kind::kIrrecoverable:
      return "irrecoverable";
    case Receipt::Kind::kReadmission:
      return "readmission";
    case Receipt::Kind::kGivenUp:
      break;
  }
  return "givenUp";
}

Json Of(const Receipt::User& user) {
  Json keyspaces = Json::array();
  for (const Receipt::Keyspace& keyspace : user.keyspaces) {
    Json& one = keyspaces.emplace_back(Json{{"keyspace", keyspace.name}, {"pseudonym", keyspace.pseudonym}});
    if (keyspace.erasedBefore.has_value()) one["erasedBefore"] = *keyspace.erasedBefore;
  }
  return {{"keys", user.keys}, {"keyspaces", std::move(keyspaces)}};
}

Json Of(const Receipt::Spread& spread) {
  Json agents = Json::array();
  for (const Receipt::Agent& agent : spread.agents) {
    Json& one = agents.emplace_back(Json{{"name", agent.name}});
    if (agent.confirmed.has_value()) one["confirmed"] = *agent.confirmed;
    if (agent.refusesFrom.has_value()) one["refusesFrom"] = *agent.refusesFrom;
  }
  Json json = {{"complete", spread.complete}, {"agents", std::move(agents)}};
  if (spread.error.has_value()) json["error"] = *spread.error;
  return json;
}

}  // namespace

std::string TextOf(const Receipt& receipt, uint64_t number, const std::string& previous) {
  Json json = {
      {"kveilReceipt", kFormat},      {"number", number},     {"previous", previous},
      {"kind", NameOf(receipt.kind)}, {"time", receipt.time}, {"registry", receipt.registry},
      {"agent", receipt.agent},
  };
  if (receipt.kind != Receipt::Kind::kIrrecoverable) json["uid"] = receipt.uid;
  if (receipt.reason.has_value()) json["reason"] = *receipt.reason;
  const bool isOfErasures = receipt.kind != Receipt::Kind::kGivenUp && receipt.kind != Receipt::Kind::kReadmission;
  if (isOfErasures) json["erasure"] = receipt.erasure;
  if (receipt.kind == Receipt::Kind::kErasure || receipt.kind == Receipt::Kind::kReadmission) {
    Json users = Json::array();
    for (const Receipt::User& user : receipt.users) users.push_back(Of(user));
    json["users"] = std::move(users);
  }
  if (receipt.spread.has_value()) json["spread"] = Of(*receipt.spread);
  if (receipt.ended.has_value()) {
    json["epoch"] = receipt.ended->epoch;
    json["epochsBeforeDestroyed"] = receipt.ended->destroyed;
    json["rootKey"] = receipt.ended->rootKey;
  }
  if (receipt.key.has_value()) {
    json["key"] = {{"id", receipt.key->id}, {"scope", receipt.key->scope}, {"epoch", receipt.key->epoch}};
  }
  // Names of keyspaces are text, but a registry may hold anything.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<int64_t> IrrecoverableUpTo(const std::string& text, const std::string& registry) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("kind", Json()) != NameOf(Receipt::Kind::kIrrecoverable)) return std::nullopt;
  const auto erasure = json.find("erasure");
  if (json.value("registry", Json()) != registry || erasure == json.end() || !erasure->is_number_integer()) {
    return std::nullopt;
  }
  return erasure->get<int64_t>();
}

absl::StatusOr<Place> PlaceOf(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, Parse(text));
  const auto number = json.find("number");
  const auto previous = json.find("previous");
  if (number == json.end() || !number->is_number_unsigned() || previous == json.end() || !previous->is_string()) {
    return absl::InvalidArgumentError("it has no place in the chain");
  }
  return Place{number->get<uint64_t>(), previous->get<std::string>()};
}

absl::StatusOr<ErasuresTold> ErasuresOf(const std::string& text) {
  ASSIGN_OR_RETURN(const Json json, Parse(text));
  ErasuresTold told;
  told.registry = TextAt(json, "registry");
  if (TextAt(json, "kind") != NameOf(Receipt::Kind::kErasure) || !json.contains("users")) return told;
  const auto erasure = json.find("erasure");
  if (erasure == json.end() || !erasure->is_number_integer()) return absl::InvalidArgumentError("it is malformed");
  told.erasure = erasure->get<int64_t>();
  for (const Json& user : json.at("users")) {
    if (!user.is_object() || !user.contains("keyspaces")) return absl::InvalidArgumentError("it is malformed");
    for (const Json& keyspace : user.at("keyspaces")) {
      told.subjects.push_back({TextAt(keyspace, "keyspace"), TextAt(keyspace, "pseudonym")});
    }
  }
  return told;
}

}  // namespace kveil::receipts
