// Checks host names, which are looked up, sent in a TLS ClientHello and compared with a certificate.
#pragma once

#include <string_view>

namespace kveil {

// Labels of at most 63 letters, digits, '-' and '_', with no '-' at either end, joined by dots (RFC 1123 section 2.1,
// plus the underscore, which is in use); at most 253 bytes. The last label must not be all digits, so an IPv4 address
// is not a name. A name in another alphabet must be in its ASCII form (RFC 5891, "xn--").
bool IsHostName(std::string_view name);

}  // namespace kveil
