// What is a host name: what may be looked up, sent in a TLS greeting and compared with a certificate.
#pragma once

#include <string_view>

namespace kveil {

// Labels of at most 63 letters, digits, '-' and '_', no '-' at their ends, joined by dots (RFC 1123 section 2.1, and
// the underscore that is in use); at most 253 bytes; not an address, so that the last label has more than digits. A
// name in other alphabets is to be in its ASCII form (RFC 5891, "xn--").
bool IsHostName(std::string_view name);

}  // namespace kveil
