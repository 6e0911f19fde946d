// Tells a Kafka connection from a stranger by its first bytes.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace kveil::proxy {

// Looks at the first bytes of what should be a Kafka frame and says what they look like instead ("TLS",
// "HTTP", ...). Called when the length they would mean is beyond the limit. A frame of up to 256 MiB starts with 00 to
// 10, so none of these can be a valid one, but for the length below.
std::string NameForeignBytes(Bytes start);

// The length that version 2 of the PROXY protocol would mean, 208 MiB: no Kafka frame, also where the limit is higher.
inline constexpr uint32_t kProxyProtocolLength = 0x0d0a0d0a;

}  // namespace kveil::proxy
