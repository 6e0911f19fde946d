// Who a client claims to be. The kernel attests none of it.
#pragma once

#include <cstddef>
#include <string>

namespace kveil::identity {

// No policy names a longer client id. The protocol allows 32 KiB, and what a client claims is kept with its requests.
inline constexpr size_t kLongestClientId = 255;

// Empty: not known.
struct Claims {
  std::string principal;    // the SASL name that the broker has accepted, without "User:"
  std::string certificate;  // subject of the certificate that the client has shown, as io::SubjectText (RFC 4514)
  std::string clientId;     // of one request: the next one may have another

  bool empty() const { return principal.empty() && certificate.empty() && clientId.empty(); }
  // Memory in bytes.
  size_t bytes() const { return sizeof(*this) + principal.size() + certificate.size() + clientId.size(); }

  bool operator==(const Claims&) const = default;
};

}  // namespace kveil::identity
