// Recognizes by the first bytes that a connection does not speak Kafka.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace kveil::proxy {

// Returns what the first bytes of a supposed Kafka frame look like instead ("TLS", "HTTP", ...). Call it when the
// length that they mean is beyond the limit. A frame of up to 256 MiB starts with a byte from 00 to 10 (hexadecimal),
// so none of these is a valid one, except for the length below.
std::string NameForeignBytes(Bytes start);

// Whether the first byte of a connection, or more of them, are those of TLS: a handshake record (RFC 8446 section 5.1).
bool BeginsTls(Bytes start);

// The length that the first bytes of the PROXY protocol, version 2, mean: 208 MiB. It counts as no Kafka frame even
// where the limit is higher.
inline constexpr uint32_t kProxyProtocolLength = 0x0d0a0d0a;

}  // namespace kveil::proxy
