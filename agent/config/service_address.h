// The address of a service that the agent asks over HTTPS.
#pragma once

#include <string>
#include <string_view>

#include "config/json_value.h"

namespace kveil::config {

// Reads "https://HOST" or "https://HOST:PORT", without a path. http:// is only for a service on this node, as tokens
// and keys would cross the network in clear text. Anything else is reported as an error, which shows `example`.
std::string ReadServiceAddress(const JsonValue& value, std::string_view example);

// The same with a path, and perhaps a query: "https://HOST/PATH". At most 2,048 characters of printable ASCII, without
// a fragment.
std::string ReadServiceUrl(const JsonValue& value, std::string_view example);

}  // namespace kveil::config
