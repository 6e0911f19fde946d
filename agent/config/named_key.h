// Where a provider's configuration gets the name of its key from.
#pragma once

#include <optional>

namespace kveil::config {

class JsonObject;
class JsonValue;

// kPolicy: of a provider in `keys.keks`, whose keys policies name.
enum class KeyNamedBy { kConfiguration, kPolicy };

// The member "key". nullopt: policies name it, or it is missing, which is an error.
std::optional<JsonValue> FindNamedKey(const JsonObject& object, KeyNamedBy namedBy);

}  // namespace kveil::config
