// Tells a Kafka connection from a stranger by its first bytes.
#pragma once

#include <cstddef>
#include <string>

#include "base/bytes.h"

namespace kveil::proxy {

// Looks at the first bytes of what should be a Kafka frame and says what they look like instead ("TLS", "HTTP", ...).
// Called when the length they would mean is beyond the limit. A frame of up to 100 MiB starts with 00 to 06, so none of
// these can be a valid one.
std::string NameForeignBytes(Bytes start);

}  // namespace kveil::proxy
