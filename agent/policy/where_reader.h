// Reads the `where` of an entry of `read`.
#pragma once

#include <optional>

#include "config/json_value.h"
#include "policy/policy.h"

namespace kveil::policy {

// `seal`: of the topic, as `users` are ids of its keyspace. Errors go to the document.
Where ReadWhere(const config::JsonValue& value, const std::optional<SealRule>& seal);

}  // namespace kveil::policy
